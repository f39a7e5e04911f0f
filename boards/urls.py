from __future__ import annotations

from django.urls import path

from boards import activity, views
from boards.insights import views as insights

app_name = "boards"

urlpatterns = [
    path("", views.home, name="home"),
    path("boards/<str:key>", views.board, name="board"),
    path("boards/<str:key>/changes", views.changes, name="changes"),
    path("boards/<str:key>/activity", activity.activity, name="activity"),
    path("boards/<str:key>/insights", insights.insights, name="insights"),
    path("boards/<str:key>/insights/<slug:name>.csv", insights.export, name="insights_csv"),
    path("boards/<str:key>/columns/<uuid:column>", views.more, name="more"),
]
