from __future__ import annotations

from django.urls import path

from boards import views

app_name = "boards"

urlpatterns = [
    path("", views.home, name="home"),
    path("boards/<str:key>", views.board, name="board"),
    path("boards/<str:key>/changes", views.changes, name="changes"),
    path("boards/<str:key>/columns/<uuid:column>", views.more, name="more"),
]
