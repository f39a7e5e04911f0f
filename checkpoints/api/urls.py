from __future__ import annotations

from django.urls import path

from checkpoints.api import views

urlpatterns = [
    path("boards/<str:board>/bundles", views.BringView.as_view(), name="bundles"),
    path("cards/<str:card>/bundle", views.BundleView.as_view(), name="card-bundle"),
    path("goals/<uuid:goal>/bundle", views.GoalBundleView.as_view(), name="goal-bundle"),
    path("boards/<str:board>/storage", views.StorageView.as_view(), name="storage"),
    path("cards/<str:card>/steps", views.StepsView.as_view(), name="card-steps"),
    path("cards/<str:card>/checkpoints", views.CheckpointsView.as_view(), name="checkpoints"),
    path(
        "cards/<str:card>/checkpoints/<int:number>",
        views.CheckpointView.as_view(),
        name="checkpoint",
    ),
    path(
        "cards/<str:card>/checkpoints/<int:number>/file",
        views.FileView.as_view(),
        name="checkpoint-file",
    ),
    path(
        "cards/<str:card>/checkpoints/<int:number>/diff",
        views.DifferenceView.as_view(),
        name="checkpoint-diff",
    ),
    path("cards/<str:card>/rewind", views.RewindView.as_view(), name="card-rewind"),
    path("cards/<str:card>/fork", views.ForkView.as_view(), name="card-fork"),
    path("cards/<str:card>/split", views.SplitView.as_view(), name="card-split"),
    path("cards/<str:card>/race", views.RaceView.as_view(), name="card-race"),
    path("cards/<str:card>/choose", views.ChooseView.as_view(), name="card-choose"),
    path("cards/<str:card>/salvages", views.SalvagesView.as_view(), name="card-salvages"),
    path(
        "cards/<str:card>/salvages/<int:salvage>/diff",
        views.SalvageDifferenceView.as_view(),
        name="salvage-diff",
    ),
    path(
        "cards/<str:card>/salvages/<int:salvage>/adopt",
        views.AdoptView.as_view(),
        name="salvage-adopt",
    ),
    path("cards/<str:card>/remarks", views.RemarksView.as_view(), name="card-remarks"),
    path("cards/<str:card>/remarks/<int:message>", views.RemarkView.as_view(), name="card-remark"),
    path("cards/<str:card>/merge", views.MergeView.as_view(), name="card-merge"),
    path("cards/<str:card>/verify", views.VerifyView.as_view(), name="card-verify"),
    path("cards/<str:card>/patch", views.PatchView.as_view(), name="card-patch"),
    path("cards/<str:card>/briefing", views.BriefingView.as_view(), name="card-briefing"),
    path(
        "cards/<str:card>/attempts/<int:number>/briefing",
        views.ToldView.as_view(),
        name="told",
    ),
    path("cards/<str:card>/attempts/<int:number>/log", views.LogView.as_view(), name="log"),
    path(
        "cards/<str:card>/attempts/<int:number>/log/matches",
        views.LogMatchesView.as_view(),
        name="log-matches",
    ),
    path(
        "cards/<str:card>/attempts/<int:number>/log/raw",
        views.RawLogView.as_view(),
        name="log-raw",
    ),
    path("artifacts", views.ArtifactsView.as_view(), name="artifacts"),
    path("artifacts/<str:sha256>", views.ArtifactView.as_view(), name="artifact"),
]
