from __future__ import annotations

from django.urls import path

from boards import activity, goal_history, palette, plan_pages, search_pages, setup_pages, views
from boards.insights import views as insights
from boards.notices import answering
from boards.notices import pages as notices

app_name = "boards"

urlpatterns = [
    path("", views.home, name="home"),
    path("palette", palette.search, name="palette"),
    path("search", search_pages.search, name="search"),
    path("boards/new", setup_pages.new_board, name="new_board"),
    path("boards/<str:key>/settings", setup_pages.settings, name="settings"),
    path("boards/<str:key>/import", setup_pages.import_, name="import"),
    path("inbox", notices.page, name="inbox"),
    path("inbox/count", notices.count, name="inbox_count"),
    path("inbox/settings", notices.notifications, name="notifications"),
    path("inbox/unsubscribe/<str:token>", notices.unsubscribe, name="unsubscribe"),
    path("inbox/answer/<str:token>", answering.answer, name="answer"),
    path("goals/<uuid:goal>/plans", plan_pages.plans, name="plans"),
    path("plans/<uuid:plan>", plan_pages.plan, name="plan"),
    path("goals/<uuid:goal>/amendments", goal_history.page, name="amendments"),
    path("boards/<str:key>/webhooks", notices.webhooks, name="webhooks"),
    path("boards/<str:key>", views.board, name="board"),
    path("boards/<str:key>/changes", views.changes, name="changes"),
    path("boards/<str:key>/rows", views.rows, name="rows"),
    path("boards/<str:key>/views", views.views, name="views"),
    path("boards/<str:key>/activity", activity.activity, name="activity"),
    path("boards/<str:key>/insights", insights.insights, name="insights"),
    path("boards/<str:key>/insights/<slug:name>.csv", insights.export, name="insights_csv"),
    path("boards/<str:key>/columns/<uuid:column>", views.more, name="more"),
]
