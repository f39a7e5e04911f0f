from __future__ import annotations

from django.urls import path

from workers.api import carrying, views

_CALLS = {
    "": views.AttemptView,
    "/heartbeat": views.HeartbeatView,
    "/steps": views.StepsView,
    "/checkpoints": views.CheckpointsView,
    "/log": views.LogView,
    "/decisions": views.DecisionsView,
    "/discoveries": views.DiscoveriesView,
    "/cards": views.FollowUpsView,
    "/plan": views.ProposePlanView,
    "/complete": views.CompleteView,
    "/fail": views.FailView,
    "/block": views.BlockView,
    "/release": views.ReleaseView,
    "/salvage": views.SalvageView,
    "/terms": carrying.TermsView,
    "/answers": carrying.AnswersView,
    "/briefing": carrying.TellingView,
    "/start": carrying.StartView,
    "/workspace": carrying.WorkspaceView,
}

urlpatterns = [
    path("claims", views.ClaimsView.as_view(), name="claims"),
    *(
        path(f"attempts/<uuid:attempt>{call}", view.as_view(), name=f"attempt{call or '-self'}")
        for call, view in _CALLS.items()
    ),
    path(
        "attempts/<uuid:attempt>/steps/<path:key>/finish",
        views.FinishView.as_view(),
        name="finish-step",
    ),
    path("workers", views.WorkersView.as_view(), name="workers"),
    path("workers/<str:worker>", views.WorkerView.as_view(), name="worker"),
    path("workers/<str:worker>/drain", views.DrainView.as_view(), name="drain-worker"),
    path("workers/<str:worker>/undrain", views.UndrainView.as_view(), name="undrain-worker"),
]
