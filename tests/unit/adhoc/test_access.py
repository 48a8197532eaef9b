"""What the deploy user may do on hosts, so that on-call tasks work there and no more than that."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from backline import places

FILES = [  # and none of the labs that somebody made here
    *(
        places.CHECKOUT / "inventory" / name / "group_vars/all/main.yml"
        for name in ("lab", "staging", "production")
    ),
    places.CHECKOUT / "templates/environment/group_vars/all/main.yml.j2",
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parts[-4])
def test_the_deploy_user_reads_journals_and_has_no_other_privilege(path: Path) -> None:
    text = path.read_text()
    users = yaml.safe_load(text[text.index("fleet_users:") :].split("\n\n")[0])["fleet_users"]
    (deploy,) = (user for user in users if user["name"] == "deploy")
    assert deploy["groups"] == ["systemd-journal"] and "sudo" not in deploy
