//! The page when replicas go: it says so at once, goes on with another, and never takes what was for what is.

use crate::{page, under_test};
use quorate_tests::{
    Processes,
    browser::{Browser, DESK},
    oracle::succeeded,
    processes::Setup,
    reference::made_up_text,
};
use std::time::Duration;

/// How soon a lost connection is told: a person should not look at an old page for longer.
const AT_ONCE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn the_page_recovers_from_a_killed_primary_and_cannot_tell_without_f_plus_one() {
    let mut cluster = Processes::set_up(Setup::new(under_test(), 3)).await;
    cluster.put(&made_up_text(256 << 10), "/in/text").await;
    let desk = Browser::start(DESK, false).await;
    // The first view's primary is the one whose page is open.
    desk.open(&page(&cluster, 0, "")).await;
    desk.until_says("#verdict", "3 of 3 replicas say so").await;
    desk.until_says("#follows", "follows replica-0").await;

    cluster.kill("replica-0");
    let told = desk
        .within(AT_ONCE, "document.querySelector('#verdict').innerText.includes('The connection to replica-0 is lost')")
        .await;
    println!("a killed primary is told after {} ms", told.as_millis());
    desk.until("!document.querySelector('#follows').innerText.includes('replica-0')").await;
    desk.until("document.querySelector('#follows').dataset.connected === 'true'").await;
    desk.until_says("#verdict", "2 of 3 replicas say so").await;
    assert!(desk.text("#verdict").await.contains("replica-0 does not answer"));
    // What happens after that is seen on the page that the dead one had served.
    let job = cluster.submit_wordcount(&[]).await;
    desk.until_says("#main", "job-1").await;
    succeeded(&cluster.ended(job).await);
    desk.until("[...document.querySelectorAll('#main tr')].some((row) => /job-1[^]*succeeded/.test(row.innerText))")
        .await;
    desk.until("!/primary\\s+replica-0/.test(document.querySelector('#main').innerText)").await;
    desk.picture("after-the-primary").await;

    // One of three is not enough, whatever it says.
    cluster.kill("replica-1");
    desk.within(AT_ONCE, "document.querySelector('#verdict').dataset.tone === 'unknown'").await;
    desk.until_says("#verdict", "Cannot tell whether anything is lying: 1 of 3 replicas").await;
    desk.until_says("#verdict", "Stale, ").await;
    assert!(!desk.text("#verdict .verdict-head").await.contains("No lie"));
    desk.picture("cannot-tell").await;

    cluster.start_member("replica-1");
    desk.until_says("#verdict", "2 of 3 replicas say so").await;
    cluster.start_member("replica-0");
    desk.until_says("#verdict", "3 of 3 replicas say so").await;
    desk.stop().await;
    cluster.stop().await;
}
