"""The pages on which a board's workflow templates stand."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.test import Client

from boards import workflow_templates
from boards.models import Membership
from kernel.access import Role
from tests.factories import make_board

pytestmark = pytest.mark.django_db


def test_operators_find_the_templates_in_the_settings_and_others_do_not(client: Client) -> None:
    board = make_board()
    source = "steps: [{key: a, run: 'echo <b>'}]"
    workflow_templates.make(board, "user:ann", name="Release", source=source)
    for role, shown in ((Role.OPERATOR, True), (Role.MEMBER, False)):
        user = get_user_model().objects.create_user(role.name)
        Membership.objects.create(board=board, user=user, role=role)
        client.force_login(user)
        html = client.get(f"/boards/{board.key}/settings").content.decode()
        assert ("data-template-form" in html) is shown
        assert ("echo &lt;b&gt;" in html) is shown
