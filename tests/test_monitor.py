"""The last stage of a real night: what it keeps, the report that it writes, and the report of a night that is refused."""

import json
import shutil

from conftest import FIRST_DATE, SECOND_DATE, SMALL, Workspace

THIRD_DATE = "2026-01-07"


def test_a_published_night_has_its_numbers_and_its_report(published):
    for date in (FIRST_DATE, SECOND_DATE):
        run_path = published.run_path(date)
        marker = json.loads((run_path / "monitoring.json").read_text())
        published_marker = json.loads((run_path / "published.json").read_text())
        assert marker["inputs"] == {"publish": published_marker["digest"]}
        assert marker["report"] == str(run_path / "report.html")
        night = marker["night"]
        assert (night["run_date"], night["status"], night["rows"]) == (str(date), "published", published_marker["rows"])
        assert night["metrics"] == json.loads((run_path / "blessing.json").read_text())["metrics"]
        page = (run_path / "report.html").read_text()
        assert "</span>Published</h1>" in page
        assert "cannot be made" not in page
        outcome = json.loads((run_path / "outcome.json").read_text())
        assert (outcome["status"], outcome["exit_code"], outcome["stage"]) == ("published", 0, None)
        assert {"foretable", "python", "tensorflow", "apache-beam", "keras"} <= set(outcome["versions"])
    assert json.loads((published.run_path(SECOND_DATE) / "monitoring.json").read_text())["night"]["trained"] is False


def statuses(workspace):
    """What `foretable runs` says became of each night."""
    return {run["run_date"]: run["status"] for run in workspace.json("runs")["runs"]}


def test_a_refused_night_keeps_its_exit_code_and_has_a_report(published, tmp_path):
    news = tmp_path / "news.json"
    hook = f'{{kind: command, command: [sh, -c, "cat > {news}; exit 9"], on: refused}}'
    # A copy, since other tests count the nights there; some leave nights of their own, perhaps one of the same date.
    ignored = shutil.ignore_patterns(THIRD_DATE)
    shutil.copytree(published.folder, tmp_path / "workspace", symlinks=True, ignore=ignored)
    refused = Workspace(
        tmp_path / "workspace",
        *SMALL,
        "evaluation.thresholds=[{metric: mae, upper_bound: 0.001}]",
        f"notify=[{hook}]",
    )
    before = statuses(refused)
    ended = refused.run("run", "--date", THIRD_DATE, code=3)
    run_path = refused.run_path(THIRD_DATE)
    said = [line for line in ended.err.splitlines() if not line.startswith(("prepare ", "train ", "evaluate "))]
    assert said[1] == f"the report is {run_path / 'report.html'}"
    assert said[2] == "warning: notify: command sh: ended with exit code 9; the night is not affected"
    assert said[3].startswith("error: model ")
    assert "</span>Refused by evaluate</h1>" in (run_path / "report.html").read_text()
    assert not (run_path / "monitoring.json").exists()
    body = json.loads(news.read_text())
    assert (body["status"], body["exit_code"], body["stage"], body["run_date"]) == (
        "refused",
        3,
        "evaluate",
        THIRD_DATE,
    )
    assert THIRD_DATE not in before
    assert statuses(refused) == before | {THIRD_DATE: "refused"}
