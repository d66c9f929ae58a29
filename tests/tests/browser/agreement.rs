//! A lying replica: named as the one that says otherwise, and not believed, even when the page came from it.

use crate::{page, under_test};
use quorate_jobtracker::ReplicaLiar;
use quorate_liars::Kind;
use quorate_protocol::ids::{ReplicaId, TrackerId};
use quorate_tests::{
    Processes,
    browser::{Browser, DESK},
    processes::Setup,
    reference::made_up_text,
};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hides_a_liar_is_named() {
    let setup = Setup {
        liars: vec![(TrackerId::new(1), Kind::CorruptMap)],
        lying_replicas: vec![(ReplicaId::new(0), ReplicaLiar::WrongReply)],
        ..Setup::new(under_test(), 4)
    };
    let cluster = Processes::set_up(setup).await;
    cluster.put(&made_up_text(512 << 10), "/in/text").await;
    // It serves the page, and the page asks the others all the same.
    let desk = Browser::start(DESK, false).await;
    desk.open(&page(&cluster, 0, "")).await;
    let job = cluster.submit_wordcount(&["--split", "64KiB"]).await;
    cluster.ended(job).await;
    desk.until_says("#verdict", "replica-0 says otherwise than 2 of 3 replicas").await;
    desk.until_says("#verdict", "tracker-1 is suspected").await;
    assert_eq!(desk.value("document.querySelector('#verdict').dataset.tone").await, json!("lie"));
    // What else is shown comes from another one.
    desk.until("document.querySelector('#follows').dataset.connected === 'true' && !document.querySelector('#follows').innerText.includes('replica-0')").await;
    desk.picture("lying-replica").await;
    desk.follow("Agreement").await;
    desk.until("document.querySelectorAll('#main tbody tr').length >= 3").await;
    desk.picture("agreement").await;
    the_rules_of_the_verdict_hold(&desk).await;
    desk.stop().await;
    cluster.stop().await;
}

/// The page's own rule, on answers that no cluster could be made to give in a test: the module is the one that the page runs.
async fn the_rules_of_the_verdict_hold(desk: &Browser) {
    let say = |replica: u32, ordered: u64, blame: &str, faults: Value| {
        let trackers = if blame == "none" {
            json!([])
        } else {
            json!([{ "tracker": 2, "domain": "d", "blame": blame, "evidence": 1, "kinds": [] }])
        };
        json!({ "replica": replica, "body": {
            "agreed": { "cluster": "c", "position": { "ordered": ordered, "digest": format!("{ordered}") }, "trackers": trackers },
            "own": { "replica": replica, "faults": faults } } })
    };
    let silent = |replica: u32| json!({ "replica": replica, "error": {} });
    let fault = |replica: u32| json!([{ "replica": replica, "proof": true, "what": "it said two things" }]);
    let none = || json!([]);
    let judge = async |f: u32, answers: Value| {
        desk.promised(&format!("import('/standing.js').then(({{ judge }}) => judge({answers}, {f}))")).await
    };

    let alike =
        judge(1, json!([say(0, 5, "none", none()), say(1, 5, "none", none()), say(2, 5, "none", none())])).await;
    assert_eq!((&alike["tone"], &alike["alike"]), (&json!("clear"), &json!([0, 1, 2])));
    // Liars that are fewer than f + 1 neither accuse nor clear anybody.
    let accuser =
        judge(1, json!([say(0, 5, "convicted", fault(1)), say(1, 5, "none", none()), say(2, 5, "none", none())])).await;
    assert_eq!(
        (&accuser["tone"], &accuser["trackers"], &accuser["otherwise"]),
        (&json!("lie"), &json!([]), &json!([0]))
    );
    assert_eq!(accuser["replicas"][0]["certain"], json!(false));
    let hider = judge(
        1,
        json!([say(0, 5, "none", none()), say(1, 5, "convicted", fault(0)), say(2, 5, "convicted", fault(0))]),
    )
    .await;
    assert_eq!(
        (&hider["tone"], &hider["otherwise"], &hider["replicas"][0]["proof"]),
        (&json!("lie"), &json!([0]), &json!(true))
    );
    // One that is elsewhere in the history does not lie, and counts for nothing.
    let behind =
        judge(1, json!([say(0, 4, "none", none()), say(1, 5, "suspected", none()), say(2, 5, "suspected", none())]))
            .await;
    assert_eq!(
        (&behind["tone"], &behind["behind"], &behind["otherwise"]),
        (&json!("suspicion"), &json!([0]), &json!([]))
    );
    // Fewer than f + 1: nothing is known, and nothing is clear.
    for answers in [
        json!([say(0, 5, "none", none()), silent(1), silent(2)]),
        json!([say(0, 4, "none", none()), say(1, 5, "none", none()), silent(2)]),
        json!([say(0, 5, "none", none()), say(1, 5, "suspected", none()), say(2, 5, "convicted", none())]),
        json!([silent(0), silent(1), silent(2)]),
    ] {
        let judged = judge(1, answers).await;
        assert_eq!((&judged["tone"], &judged["agreed"]), (&json!("unknown"), &Value::Null), "{judged}");
    }
    // Two groups of f + 1 are more liars than may be.
    let split = judge(
        1,
        json!([
            say(0, 5, "none", none()),
            say(1, 5, "none", none()),
            say(2, 5, "suspected", none()),
            say(3, 5, "suspected", none())
        ]),
    )
    .await;
    assert_eq!((&split["tone"], &split["contradiction"]), (&json!("unknown"), &json!(true)));
    // Where answers are compared: f liars move it neither beyond what an honest replica has nor below.
    let at = async |ordered: [u64; 3]| {
        let answers: Vec<Value> =
            (0..).zip(ordered).map(|(replica, ordered)| say(replica, ordered, "none", none())).collect();
        desk.promised(&format!("import('/standing.js').then(({{ comparedAt }}) => comparedAt({}, 1))", json!(answers)))
            .await
    };
    assert_eq!(at([0, 7, 9]).await, json!(7));
    assert_eq!(at([9_000_000_000, 7, 9]).await, json!(9));
}
