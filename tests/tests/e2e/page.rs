//! What the replicas' pages say of a cluster with liars.

use crate::under_test;
use quorate_jobtracker::ReplicaLiar;
use quorate_liars::Kind;
use quorate_protocol::ids::{ReplicaId, TrackerId};
use quorate_tests::{
    Processes,
    http::{get, json},
    oracle::succeeded,
    processes::Setup,
};
use serde_json::Value;

/// What each replica says of who lies, all of them of one place of the history.
async fn standings(cluster: &Processes, replicas: u32) -> Vec<Value> {
    let mut least = u64::MAX;
    for replica in 0..replicas {
        let now = json(cluster.page(replica), "/api/v1/standing").await;
        least = least.min(now["agreed"]["position"]["ordered"].as_u64().expect("a place"));
    }
    let mut said = Vec::new();
    for replica in 0..replicas {
        said.push(json(cluster.page(replica), &format!("/api/v1/standing?at={least}")).await["agreed"].take());
    }
    said
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_replicas_name_the_liar_in_the_same_words_and_a_lying_one_stands_out() {
    let setup = Setup {
        liars: vec![(TrackerId::new(2), Kind::CorruptMap)],
        lying_replicas: vec![(ReplicaId::new(1), ReplicaLiar::WrongReply)],
        ..Setup::new(under_test(), 5)
    };
    let cluster = Processes::set_up(setup).await;
    cluster.put(&b"some words, some more words\n".repeat(40_000), "/in").await;
    let job = cluster.submit_wordcount(&["--split", "256KiB"]).await;
    succeeded(&cluster.ended(job).await);
    cluster
        .until("the liar is suspected", async || {
            let standing = json(cluster.page(0), "/api/v1/standing").await;
            standing["agreed"]["trackers"].as_array().is_some_and(|trackers| !trackers.is_empty())
        })
        .await;
    let said = standings(&cluster, 3).await;
    assert_eq!(said[0], said[2], "two honest replicas say the same of one place");
    assert_eq!(said[0]["position"], said[1]["position"]);
    assert_ne!(said[0], said[1], "the lying one says otherwise");
    assert_eq!(said[1]["trackers"], Value::Array(Vec::new()));
    let suspects = said[0]["trackers"].as_array().expect("a list");
    assert_eq!(suspects.len(), 1, "{suspects:?}");
    assert_eq!((&suspects[0]["tracker"], &suspects[0]["blame"]), (&2.into(), &"suspected".into()));
    let tracker = json(cluster.page(0), "/api/v1/trackers/2").await;
    assert_eq!(tracker["duty"]["word"], "full", "suspicion takes nothing from it");
    let accusation = &tracker["accusations"][0];
    assert_eq!((&accusation["kind"], &accusation["valid"]), (&"outvoted".into(), &true.into()), "{accusation}");
    assert_eq!(accusation["statements"].as_array().map(Vec::len), Some(3), "the vote, and f + 1 others");
    // It may not have executed the job's end yet, although two others have.
    cluster
        .until("the job's end is shown", async || {
            json(cluster.page(2), "/api/v1/cluster").await["jobs"]["succeeded"] == 1
        })
        .await;
    let shown = json(cluster.page(2), "/api/v1/cluster").await;
    let pages: Vec<_> = (0..3).map(|replica| Value::from(format!("http://{}/", cluster.page(replica)))).collect();
    let told: Vec<_> =
        shown["replicas"].as_array().expect("a list").iter().map(|replica| replica["page"].clone()).collect();
    assert_eq!(told, pages);
    assert_eq!(shown["jobs"]["succeeded"], 1);
    the_record_of_the_job(&cluster, job.number()).await;
    let (status, metrics) = get(cluster.page(0), "/metrics").await.expect("an answer");
    assert!(status == 200 && metrics.contains("quorate_trackers_blamed{blame=\"suspected\"} 1"), "{metrics}");
    assert!(metrics.contains(&format!("quorate_job_attempts{{job=\"{job}\"}} ")), "{metrics}");
    cluster.stop().await;
}

/// The job's record says what the scheduler says, alike on both honest replicas, and again after one of them started anew.
async fn the_record_of_the_job(cluster: &Processes, job: u64) {
    let path = format!("/api/v1/jobs/{job}");
    let shown = json(cluster.page(0), &path).await;
    assert_eq!((&shown["record"], &shown["state"]), (&"kept".into(), &"succeeded".into()), "{shown}");
    assert_eq!(shown["events"]["gaps"], false);
    let sum = |of: &str| -> u64 {
        let stages = shown["stages"].as_array().expect("stages");
        let counts = stages.iter().flat_map(|stage| stage[of].as_object().expect("counts").values());
        counts.map(|count| count.as_u64().expect("a count")).sum()
    };
    let view = cluster.client().job(quorate_protocol::ids::JobId::new(job)).await.expect("a job");
    assert_eq!(shown["attempts"], view.attempts);
    assert_eq!(
        sum("attempts"),
        view.attempts + view.tests,
        "as many attempts as were ordered, those that test trackers too"
    );
    let contested = |stage: usize| shown["stages"][stage]["states"]["contested"].as_u64().expect("a count");
    assert_eq!(contested(0) + contested(1), shown["disputed"].as_u64().expect("a number"));
    let all = shown["stages"][0]["all"].as_u64().expect("a number") as usize;
    let matrix = json(cluster.page(0), &format!("{path}/tasks?stage=map")).await;
    let (states, attempts) = (matrix["states"].as_str().expect("letters"), matrix["attempts"].as_str().expect("words"));
    assert_eq!((states.len(), attempts.split(' ').count()), (all, all), "{matrix}");
    let disputed = states.find('q').expect("a task on which the liar was outvoted");
    assert!(attempts.split(' ').nth(disputed).is_some_and(|word| word.contains(['o', 'O'])), "{attempts}");
    let task = json(cluster.page(0), &format!("{path}/tasks/map-{disputed}")).await;
    let told = task["attempts"].as_array().expect("attempts");
    let outvoted = told.iter().filter(|attempt| attempt["state"] == "outvoted").map(|attempt| &attempt["tracker"]);
    // Once, or twice when it ran the attempt again.
    let outvoted: Vec<&Value> = outvoted.collect();
    assert!(!outvoted.is_empty() && outvoted.iter().all(|tracker| **tracker == 2), "{outvoted:?}");
    assert_eq!(task["ballots"].as_array().map(Vec::len), Some(2), "{task}");
    let moments: Vec<_> = task["timeline"].as_array().expect("moments").iter().map(|moment| &moment["what"]).collect();
    assert!(
        ["placed", "voted", "agreed", "blamed"].iter().all(|what| moments.contains(&&Value::from(*what))),
        "{task}"
    );
    let mut repeats = told.iter().filter(|attempt| attempt["purpose"] == "repeats");
    assert!(repeats.all(|attempt| attempt["differs"] != true && attempt["tracker"] == 2), "{task}");
    assert_eq!((&task["accusations"][0]["tracker"], &task["accusations"][0]["valid"]), (&2.into(), &true.into()));
    where_the_votes_differ(cluster, &path, disputed, states.find('a')).await;
    let other = json(cluster.page(2), &path).await;
    assert_eq!(other["events"], shown["events"], "both honest replicas have the same lines");
    assert_eq!(json(cluster.page(2), &format!("{path}/tasks?stage=map")).await, matrix);
    assert_eq!(get(cluster.page(0), &format!("{path}/tasks/map-99999")).await.map(|(status, _)| status), Some(404));
    let log = cluster.folder().join("replica-0").join("events");
    let listed = quorate_tests::processes::run(cluster.quorate(&["history", log.to_str().expect("a path")])).await;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("succeeded") && listed.contains("tracker-2 suspected"), "{listed}");
    let past = quorate_jobtracker::History::open(&log).expect("event logs");
    let page = past.show_page(tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port")).expect("an address");
    let address = page.address().to_string();
    let replayed = json(&address, &path).await;
    let names = |shown: &Value| -> Vec<String> {
        let disputes = shown["disputes"].as_array().expect("disputes");
        let mut names: Vec<String> = disputes.iter().map(|dispute| dispute["task"].to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&replayed), names(&shown));
    // The log also has the attempts that decide nothing, which the job tracker counts apart.
    for same in ["stages", "events", "counters", "state", "disputed", "until"] {
        assert_eq!(replayed[same], shown[same], "{same}");
    }
    assert_eq!(json(&address, &format!("{path}/tasks?stage=map")).await, matrix);
    assert_eq!(json(&address, "/api/v1/cluster").await["mode"], "history");
    assert_eq!(json(&address, "/api/v1/standing").await["agreed"]["trackers"][0]["tracker"], 2);
    page.stop().await;
}

/// Each honest replica finds the same place, and none where there is none.
async fn where_the_votes_differ(cluster: &Processes, path: &str, disputed: usize, agreed: Option<usize>) {
    let of = |task: usize| format!("{path}/tasks/map-{task}/difference");
    let told = json(cluster.page(0), &of(disputed)).await;
    let found = &told["found"][0];
    assert_eq!(found["finding"], "difference", "{told}");
    assert!(
        found["record"].is_u64() && found["place"].as_str().is_some_and(|place| place.contains("record ")),
        "{told}"
    );
    let sides = found["sides"].as_array().expect("sides");
    let liars: Vec<bool> = sides.iter().map(|side| side["tracker"] == 2).collect();
    assert_eq!(liars, [false, true], "the majority, then the liar: {told}");
    assert_ne!((&sides[0]["key"], &sides[0]["value"]), (&sides[1]["key"], &sides[1]["value"]));
    assert_eq!(json(cluster.page(2), &of(disputed)).await, told);
    for (task, status, codes) in
        [(agreed, 404, &["no-votes", "no-difference"][..]), (Some(99_999), 404, &["no-votes", "not-found"][..])]
    {
        let Some(task) = task else { continue };
        let (got, body) = get(cluster.page(0), &of(task)).await.expect("an answer");
        let refused: Value = serde_json::from_str(&body).expect("JSON");
        let code = refused["error"]["code"].as_str().expect("a code");
        assert!(got == status && codes.contains(&code), "{got} {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_starts_again_has_the_record_that_it_had() {
    let mut cluster = Processes::start(under_test(), 3, &[]).await;
    cluster.put(&b"some words\n".repeat(1000), "/in").await;
    let job = cluster.submit_wordcount(&[]).await;
    succeeded(&cluster.ended(job).await);
    let path = format!("/api/v1/jobs/{job}");
    cluster.until("the end was written down", async || json(cluster.page(1), &path).await["record"] == "kept").await;
    let before = json(cluster.page(1), &path).await;
    cluster.kill("replica-1");
    cluster.start_member("replica-1");
    // What it had not executed when it was killed, it learns from the others first.
    cluster
        .until("it shows the same record again", async || {
            let Some((200, body)) = get(cluster.page(1), &path).await else { return false };
            let after: Value = serde_json::from_str(&body).expect("JSON");
            after["record"] == "kept" && after["events"] == before["events"] && after["stages"] == before["stages"]
        })
        .await;
    cluster.stop().await;
}
