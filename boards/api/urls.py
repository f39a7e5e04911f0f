from __future__ import annotations

from django.urls import path

from boards.api import (
    amendments,
    bulk,
    events,
    goals,
    insights,
    notices,
    openapi,
    plans,
    saved,
    search,
    secrets,
    team,
    templates,
    views,
)

#: Imported to be registered with the schema generator.
SCHEMES = (openapi.TokenScheme, openapi.SessionScheme)

STEERING = ("pause", "resume", "cancel", "retry", "approve", "archive", "unarchive")

urlpatterns = [
    path("boards", views.BoardsView.as_view(), name="boards"),
    path("boards/<str:board>", views.BoardView.as_view(), name="board"),
    path("boards/<str:board>/insights", insights.InsightsView.as_view(), name="board-insights"),
    path("boards/<str:board>/views", saved.ViewsView.as_view(), name="board-views"),
    path("boards/<str:board>/views/<uuid:view>", saved.ViewView.as_view(), name="board-view"),
    path("boards/<str:board>/members", team.MembersView.as_view(), name="board-members"),
    path("boards/<str:board>/members/<int:member>", team.MemberView.as_view(), name="board-member"),
    path("boards/<str:board>/tokens", team.BoardTokensView.as_view(), name="board-tokens"),
    path("boards/<str:board>/secrets", secrets.SecretsView.as_view(), name="board-secrets"),
    path(
        "boards/<str:board>/secrets/<str:secret>", secrets.SecretView.as_view(), name="board-secret"
    ),
    path("boards/<str:board>/import", team.ImportView.as_view(), name="board-import"),
    path("boards/<str:board>/templates", templates.TemplatesView.as_view(), name="templates"),
    path(
        "boards/<str:board>/templates/<str:template>",
        templates.TemplateView.as_view(),
        name="template",
    ),
    path("cards", views.CardsView.as_view(), name="cards"),
    path("cards/bulk", bulk.BulkView.as_view(), name="cards-bulk"),
    path("cards/<str:card>", views.CardView.as_view(), name="card"),
    path("cards/<str:card>/move", views.MoveView.as_view(), name="card-move"),
    path("cards/<str:card>/messages", views.MessagesView.as_view(), name="card-messages"),
    path(
        "cards/<str:card>/messages/<int:message>",
        views.MessageView.as_view(),
        name="card-message",
    ),
    path("cards/<str:card>/attempts", views.AttemptsView.as_view(), name="card-attempts"),
    path("cards/<str:card>/reject", views.RejectView.as_view(), name="card-reject"),
    *(
        path(
            f"cards/<str:card>/{verb}",
            views.SteerView.as_view(action=verb, operation_id=f"{verb}_card"),
            name=f"card-{verb}",
        )
        for verb in STEERING
    ),
    path("goals", goals.GoalsView.as_view(), name="goals"),
    path("goals/<uuid:goal>", goals.GoalView.as_view(), name="goal"),
    path("goals/<uuid:goal>/check", goals.CheckView.as_view(), name="goal-check"),
    path("goals/<uuid:goal>/checks", goals.CheckRunsView.as_view(), name="goal-checks"),
    path("goals/<uuid:goal>/evidence", goals.WordView.as_view(), name="goal-evidence"),
    path("goals/<uuid:goal>/decisions", goals.DecisionsView.as_view(), name="goal-decisions"),
    path("goals/<uuid:goal>/discoveries", goals.DiscoveriesView.as_view(), name="discoveries"),
    path("goals/<uuid:goal>/amendments", amendments.AmendmentsView.as_view(), name="amendments"),
    path(
        "goals/<uuid:goal>/amendments/<int:number>/withdraw",
        amendments.WithdrawView.as_view(),
        name="amendment-withdraw",
    ),
    path("goals/<uuid:goal>/plans", plans.PlansView.as_view(), name="plans"),
    path("goals/<uuid:goal>/plans/ask", plans.AskView.as_view(), name="plan-ask"),
    path("plans/<uuid:plan>", plans.PlanView.as_view(), name="plan"),
    path("plans/<uuid:plan>/apply", plans.ApplyView.as_view(), name="plan-apply"),
    path("plans/<uuid:plan>/discard", plans.DiscardView.as_view(), name="plan-discard"),
    path("decisions/<uuid:decision>", goals.DecisionView.as_view(), name="decision"),
    path("discoveries/<uuid:discovery>", goals.DiscoveryView.as_view(), name="discovery"),
    path("discoveries/<uuid:discovery>/resolve", goals.ResolveView.as_view(), name="resolve"),
    path("discoveries/<uuid:discovery>/merge", goals.MergeView.as_view(), name="merge-discovery"),
    path("discoveries/<uuid:discovery>/revive", goals.ReviveView.as_view(), name="revive"),
    path("discoveries/<uuid:discovery>/card", goals.ProposeView.as_view(), name="discovery-card"),
    path("search", search.SearchView.as_view(), name="search"),
    path("events", events.EventsView.as_view(), name="events"),
    path("tokens", views.TokensView.as_view(), name="tokens"),
    path("tokens/<uuid:token>", views.TokenView.as_view(), name="token"),
    path("me", views.MeView.as_view(), name="me"),
    path("me/notifications", notices.RulesView.as_view(), name="notification-rules"),
    path("me/webhook", notices.PersonalWebhookView.as_view(), name="personal-webhook"),
    path("inbox", notices.InboxView.as_view(), name="inbox"),
    path("inbox/<uuid:notice>", notices.NoticeView.as_view(), name="notice"),
    path("cards/<str:card>/watch", notices.WatchView.as_view(), name="card-watch"),
    path("boards/<str:board>/webhooks", notices.WebhooksView.as_view(), name="webhooks"),
    path("webhooks/<uuid:webhook>", notices.WebhookView.as_view(), name="webhook"),
    path("webhooks/<uuid:webhook>/test", notices.TestView.as_view(), name="webhook-test"),
    path("webhooks/<uuid:webhook>/deliveries", notices.DeliveriesView.as_view(), name="deliveries"),
    path("deliveries/<uuid:delivery>/repeat", notices.RepeatView.as_view(), name="redeliver"),
]
