//! A job with a liar, as a person sees it: the verdict, the vote matrix, a dispute's votes, the accusation and the end.

use crate::{page, under_test};
use quorate_liars::Kind;
use quorate_protocol::{
    ids::{AttemptId, TrackerId},
    query::{JobView, Standing},
};
use quorate_tasktracker::{Shown, first_difference};
use quorate_tests::{
    Processes,
    browser::{Browser, DESK, PHONE},
    oracle::{Guilt, only_guilty, succeeded},
    processes::Setup,
    reference::made_up_text,
};
use serde_json::json;
use std::collections::BTreeSet;

const LIAR: TrackerId = TrackerId::new(1);
/// A name that would be an image, and run a script, if it were markup.
const HOSTILE: &str = "/<img src=x onerror=document.body.remove()>";

/// Cells of the vote matrix: task, and letter and tracker of each attempt.
const ROWS: &str = "[...document.querySelectorAll('#matrix-map .grid-row:not([hidden])')].map((row) => [row.dataset.task, \
    ...[...row.querySelectorAll('.cell')].map((cell) => cell.querySelector('.letter').innerText + ' ' + cell.querySelector('.who').innerText)])";

#[tokio::test(flavor = "multi_thread")]
async fn a_liar_is_seen_by_eye_by_keyboard_and_on_a_phone() {
    let cluster =
        Processes::set_up(Setup { liars: vec![(LIAR, Kind::CorruptMap)], ..Setup::new(under_test(), 4) }).await;
    cluster.put(&made_up_text(1 << 20), "/in/text").await;
    cluster.put(b"markup", HOSTILE).await;
    let desk = Browser::start(DESK, false).await;
    desk.open(&page(&cluster, 0, "")).await;
    desk.until_says("#verdict", "No lie is known").await;
    desk.until_says("#verdict", "3 of 3 replicas say so").await;

    let job = cluster.submit_wordcount(&["--split", "64KiB", "--reducers", "2"]).await;
    desk.until_says("#verdict", "tracker-1 is suspected").await;
    let view = cluster.ended(job).await;
    succeeded(&view);
    only_guilty(cluster.client(), &[(LIAR, Guilt::Suspected)]).await;
    desk.until_says("#verdict", "Perhaps: tracker-1 is suspected").await;
    assert!(desk.text("#verdict").await.contains("was outvoted"));
    desk.picture("cluster").await;

    let disputed = the_matrix_shows_the_vote(&desk, &view).await;
    a_dispute_is_shown_in_full(&desk, &cluster, &disputed).await;
    the_accusation_is_shown_with_its_proof(&desk, &cluster).await;
    names_are_text(&desk).await;
    quarantine_and_probation_are_shown(&desk, &cluster).await;
    desk.stop().await;

    by_keyboard(&cluster, &disputed).await;
    on_a_phone(&cluster, &disputed).await;
    cluster.stop().await;
}

/// The page of the job tells the end, and each attempt as f + 1 replicas tell it to a client that checks signatures. Gives the first
/// task whose vote the liar lost.
async fn the_matrix_shows_the_vote(desk: &Browser, view: &JobView) -> String {
    desk.follow("Jobs").await;
    desk.follow("job-1").await;
    desk.until_says("h1", "succeeded").await;
    desk.until("document.querySelector('.said-by')?.dataset.certain === 'true'").await;
    let (agreed, all) = view.summary.maps;
    desk.until_says("#main", &format!("{agreed} of {all} map tasks agreed")).await;
    desk.until(&format!("{ROWS}.length > 3")).await;
    desk.picture("job").await;

    // Only the disputed tasks: those that the client knows.
    desk.press_button("Disputed").await;
    let expected: BTreeSet<String> = view
        .disputes
        .iter()
        .filter(|dispute| dispute.task.stage.to_string() == "map")
        .map(|dispute| name(&dispute.task.to_string()))
        .collect();
    desk.until(&format!("{ROWS}.length === {}", expected.len())).await;
    let rows = desk.value(ROWS).await;
    let shown: BTreeSet<String> =
        rows.as_array().into_iter().flatten().filter_map(|row| row[0].as_str().map(str::to_owned)).collect();
    assert_eq!(shown, expected);
    for dispute in view.disputes.iter().filter(|dispute| expected.contains(&name(&dispute.task.to_string()))) {
        let row = rows
            .as_array()
            .into_iter()
            .flatten()
            .find(|row| row[0] == json!(name(&dispute.task.to_string())))
            .expect("a row");
        for (at, (_, tracker, standing)) in dispute.attempts.iter().enumerate() {
            let letter = match standing {
                Standing::Agreed(_) => "A",
                Standing::Outvoted(_) => "O",
                Standing::Running
                | Standing::Voted(_)
                | Standing::Overdue
                | Standing::Lost(_)
                | Standing::Cancelled => continue,
            };
            assert_eq!(row[at + 1], json!(format!("{letter} {tracker}")), "{rows}");
        }
    }
    let lost = view.disputes.iter().find(|dispute| {
        dispute
            .attempts
            .iter()
            .any(|(_, tracker, standing)| *tracker == LIAR && matches!(standing, Standing::Outvoted(_)))
    });
    name(&lost.expect("the liar was outvoted").task.to_string())
}

/// A task's name without its job's.
fn name(task: &str) -> String {
    task.rsplit('/').next().unwrap_or_default().to_owned()
}

/// The record on which the liar's output differs first: what the page shows is what a client finds itself.
async fn the_first_difference_is_side_by_side(desk: &Browser, cluster: &Processes, task: &str) {
    let sides = "[...document.querySelectorAll('.comparison .side')]";
    desk.until(&format!("{sides}.length === 2")).await;
    assert!(desk.text("[data-key=explain]").await.contains(&format!("quorate explain job-1 {task}")));
    let id: AttemptId = format!("job-1/{task}.0").parse().expect("an attempt");
    let found = first_difference(cluster.client(), id.task).await.expect("the bytes are still there");
    assert!(desk.text(".comparison").await.contains(&found.place()), "{}", desk.text(".comparison").await);
    for side in found.sides {
        let shown = format!(".comparison [data-key='s{}.{}']", side.tracker.number(), side.attempt.attempt);
        let shown = desk.text(&shown).await;
        let Shown::Record { key, value } = side.shown else { panic!("no record: {}", side.shown) };
        assert!(shown.contains(&key) && shown.contains(&value), "{shown:?} lacks {key} or {value}");
        assert!(shown.contains(if side.tracker == LIAR { "outvoted" } else { "agreed" }), "{shown}");
    }
    // What is not the same in both is marked.
    desk.until("document.querySelectorAll('.comparison mark').length > 0").await;
}

/// Votes side by side, the attempts' times, and the evidence.
async fn a_dispute_is_shown_in_full(desk: &Browser, cluster: &Processes, task: &str) {
    desk.click(&format!("#matrix-map [data-task='{task}'] a")).await;
    desk.until_says("h1", task).await;
    desk.until("document.querySelectorAll('.ballot').length === 2").await;
    let outvoted = desk.text(".ballot[data-state=outvoted]").await;
    assert!(outvoted.contains("tracker-1") && outvoted.contains("1 vote"), "{outvoted}");
    let agreed = desk.text(".ballot[data-state=agreed]").await;
    assert!(agreed.contains("2 votes") && !agreed.contains("tracker-1"), "{agreed}");
    the_first_difference_is_side_by_side(desk, cluster, task).await;
    desk.until_says("#main", "tracker-1 was outvoted").await;
    // Both attempts from the start and the one that the dispute asked for.
    desk.until("document.querySelectorAll('.timeline-row').length >= 3").await;
    desk.picture("task").await;
}

/// Each accusation, with the statements that it is made of.
async fn the_accusation_is_shown_with_its_proof(desk: &Browser, cluster: &Processes) {
    desk.click("#main .ballot[data-state=outvoted] a").await;
    desk.until_says("h1", "tracker-1").await;
    let evidence = cluster.client().evidence(LIAR).await.expect("the job tracker answers");
    desk.until(&format!("document.querySelectorAll('.accusation').length === {}", evidence.len())).await;
    assert!(desk.text(".accusation").await.contains("it was outvoted on job-1/map-"));
    desk.click(".accusation details summary").await;
    desk.until_says(".accusation", "(accused)").await;
    // The liar and the f + 1 that outvoted it.
    assert_eq!(
        desk.value("document.querySelectorAll('.accusation:first-of-type .statements > li').length").await,
        json!(3)
    );
    desk.picture("tracker").await;
}

/// What came from elsewhere is never markup.
async fn names_are_text(desk: &Browser) {
    desk.follow("Storage").await;
    desk.until_says("#main", &HOSTILE[1..]).await;
    assert_eq!(desk.value("document.querySelectorAll('#main img').length").await, json!(0));
    desk.picture("storage").await;
}

/// What an operator takes from a tracker, and how it comes back, in the words of `quorate tracker`.
async fn quarantine_and_probation_are_shown(desk: &Browser, cluster: &Processes) {
    const LOUD: TrackerId = TrackerId::new(2);
    desk.follow("Cluster").await;
    cluster.client().quarantine(LOUD, "its fan is loud".to_owned()).await.expect("the job tracker answers");
    desk.until_says("#main [data-key=t2]", "quarantine").await;
    desk.picture("quarantine").await;
    desk.click("#main [data-key=t2] a").await;
    desk.until_says("h1", "quarantine").await;
    desk.until_says("#main", "in quarantine: its fan is loud").await;
    cluster.client().readmit(LOUD).await.expect("the job tracker answers");
    desk.until_says("h1", "probation 0/3").await;
    desk.until_says("#main", "on probation: 0 of 3 known answers given").await;
    desk.picture("probation").await;
}

/// From the first key to the task, without a pointer.
async fn by_keyboard(cluster: &Processes, disputed: &str) {
    const TAB: char = '\u{e004}';
    const ENTER: char = '\u{e007}';
    const DOWN: char = '\u{e015}';
    const RIGHT: char = '\u{e014}';
    const END: char = '\u{e010}';
    let desk = Browser::start(DESK, true).await;
    desk.open(&page(cluster, 0, "jobs/1")).await;
    desk.until(&format!("{ROWS}.length > 3")).await;
    assert_eq!(desk.value("getComputedStyle(document.documentElement).colorScheme.includes('dark') && matchMedia('(prefers-color-scheme: dark)').matches").await, json!(true));
    desk.press(&[TAB]).await;
    desk.until("document.activeElement.id === 'skip' && document.activeElement.getBoundingClientRect().top >= 0").await;
    desk.press(&[ENTER]).await;
    desk.until("document.activeElement.id === 'main'").await;
    assert_eq!(desk.value("location.hash").await, json!("#/jobs/1"), "the skip link goes nowhere else");
    // Links and buttons show that they have the focus.
    desk.press(&[TAB]).await;
    assert_eq!(desk.value("getComputedStyle(document.activeElement).outlineStyle").await, json!("solid"));
    for _ in 0..12 {
        if desk.value("document.activeElement.id").await == json!("matrix-map") {
            break;
        }
        desk.press(&[TAB]).await;
    }
    desk.until("document.activeElement.id === 'matrix-map'").await;
    desk.press(&[DOWN, DOWN, RIGHT]).await;
    let active = "document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))";
    desk.until(&format!("{active}?.getAttribute('aria-label')?.startsWith('attempt 0 by tracker-')")).await;
    desk.until(&format!(
        "{active}.closest('.grid-row').dataset.task === 'map-2' && getComputedStyle({active}).outlineStyle === 'solid'"
    ))
    .await;
    desk.press(&[END]).await;
    // The last attempt of the longest row: a task has more of them when its tracker was asked to repeat one.
    let last = "document.activeElement.getAttribute('aria-colcount') - 1";
    desk.until(&format!("{active}?.id.endsWith(`-${{{last}}}`)")).await;
    // Back to the first row, then to the first disputed one.
    desk.press(&['\u{e013}', '\u{e013}']).await;
    let is_first = disputed == "map-0";
    desk.press(if is_first { &[] } else { &['n'] }).await;
    desk.until(&format!("{active}?.closest('.grid-row').dataset.task === '{disputed}'")).await;
    desk.picture("keyboard-dark").await;
    desk.press(&[ENTER]).await;
    desk.until_says("h1", disputed).await;
    desk.until("document.activeElement.id === 'main'").await;
    desk.until("document.querySelectorAll('.comparison .side').length === 2").await;
    desk.picture("task-dark").await;
    // The theme can be chosen against the system's.
    desk.click("#theme").await;
    desk.until("document.documentElement.dataset.theme === 'light'").await;
    desk.until("getComputedStyle(document.body).backgroundColor === 'rgb(246, 246, 243)'").await;
    desk.stop().await;
}

/// Every page fits into the width of a phone.
async fn on_a_phone(cluster: &Processes, disputed: &str) {
    let phone = Browser::start(PHONE, false).await;
    let task = format!("jobs/1/tasks/{disputed}");
    let pages = [
        ("", "cluster"),
        ("jobs", "jobs"),
        ("jobs/1", "job"),
        (&task, "task"),
        ("trackers/1", "tracker"),
        ("storage", "storage"),
        ("agreement", "agreement"),
    ];
    for (at, name) in pages {
        phone.open(&page(cluster, 1, at)).await;
        phone.until("document.querySelector('#main .panel') !== null").await;
        phone.until_says("#verdict", "tracker-1 is suspected").await;
        assert_eq!(phone.value("innerWidth").await, json!(PHONE.0));
        let widths = phone.value("[document.documentElement.scrollWidth, document.body.scrollWidth]").await;
        assert_eq!(widths, json!([PHONE.0, PHONE.0]), "{name} is wider than the screen");
        phone.picture(&format!("phone-{name}")).await;
    }
    phone.stop().await;
}
