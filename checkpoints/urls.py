from __future__ import annotations

from django.urls import path

from checkpoints import goal_pages, views

app_name = "checkpoints"

urlpatterns = [
    path("cards/<str:key>", views.card, name="card"),
    path("cards/<str:key>/drawer", views.drawer, name="drawer"),
    path("cards/<str:key>/bundle", views.bundle, name="bundle"),
    path("cards/<str:key>/spills", views.spills, name="spills"),
    path("cards/<str:key>/attempts", views.attempts_list, name="lineage"),
    path("cards/<str:key>/checkpoints/<int:number>/picture", views.picture, name="picture"),
    path("cards/<str:key>/checkpoints/<int:number>/notebook", views.notebook, name="notebook"),
    path("boards/<str:key>/goals", goal_pages.goals, name="goals"),
    path("boards/<str:key>/goals/new", goal_pages.new_goal, name="new_goal"),
    path("goals/<uuid:goal>", goal_pages.goal, name="goal"),
    path("goals/<uuid:goal>/evidence/<int:evidence>", goal_pages.evidence, name="evidence"),
    path("discoveries/<uuid:discovery>/merge", goal_pages.merging, name="merging"),
    path("artifacts/<str:sha256>/picture", views.artifact_picture, name="artifact-picture"),
    path("artifacts/<str:sha256>/notebook", views.artifact_notebook, name="artifact-notebook"),
    path("markdown", views.preview, name="preview"),
    path("boards/<str:key>/storage", views.storage, name="storage"),
    path("boards/<str:key>/tapes", views.tapes, name="tapes"),
]
