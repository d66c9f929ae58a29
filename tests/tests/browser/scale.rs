//! The vote matrix with twenty thousand tasks, while they run.

use crate::{page, under_test};
use quorate_tests::{
    Processes,
    browser::{Browser, DESK, PHONE},
    processes::Setup,
    reference::made_up_text,
};
use serde_json::json;

const TASKS: usize = 20_000;
/// A page that takes longer for one of its frames while a person scrolls is stuck, on however slow a machine. What the frames took is
/// printed; how fast they should be is no matter of a test that shares its cores with a running cluster.
const FRAME_MS_MAX: f64 = 2000.0;

/// Scrolls through the whole matrix for two hundred frames, and gives the milliseconds between them, shortest first.
const SCROLL: &str = "new Promise((done) => {
    const grid = document.querySelector('#matrix-map');
    const took = [];
    let last = performance.now();
    const step = (now) => {
        took.push(now - last);
        last = now;
        grid.scrollTop = (took.length / 200) * grid.scrollHeight;
        if (took.length < 200) requestAnimationFrame(step);
        else done(took.slice(1).sort((a, b) => a - b));
    };
    requestAnimationFrame(step);
})";

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_tasks_can_be_watched() {
    let cluster = Processes::set_up(Setup::new(under_test(), 3)).await;
    let text = made_up_text(TASKS);
    cluster.put(&text[..TASKS], "/in/text").await;
    let job = cluster.submit_wordcount(&["--split", "1", "--reducers", "2"]).await;
    let desk = Browser::start(DESK, false).await;
    desk.open(&page(&cluster, 0, &format!("jobs/{}", job.number()))).await;
    desk.until_says("#main", "of 20,000 map tasks agreed").await;
    desk.until("document.querySelector('#matrix-map')?.getAttribute('aria-rowcount') === '20001'").await;
    // It is live: attempts come while one looks.
    desk.until("document.querySelectorAll('#matrix-map .cell').length > 0").await;
    desk.until("document.querySelector('#matrix-map .cell[data-state=agreed]') !== null").await;

    let frames = desk.promised(SCROLL).await;
    let frames: Vec<f64> = frames.as_array().into_iter().flatten().filter_map(serde_json::Value::as_f64).collect();
    assert_eq!(frames.len(), 199);
    let at = |share: f64| frames.get((frames.len() as f64 * share) as usize).copied().unwrap_or_default();
    println!(
        "frames while scrolling {TASKS} tasks of a running job: median {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        at(0.5),
        at(0.9),
        at(0.99),
        frames[198]
    );
    assert!(frames[198] < FRAME_MS_MAX, "a frame took {} ms", frames[198]);
    // Only the rows in sight exist, and the last ones are in sight now.
    assert!(
        desk.value("document.querySelectorAll('#matrix-map .grid-row').length")
            .await
            .as_u64()
            .is_some_and(|rows| rows < 60)
    );
    desk.until("document.querySelector('#matrix-map [data-task=map-19999]') !== null").await;
    // A task is found by its number, and by its square.
    desk.value("(() => { const jump = document.querySelector('[aria-label=\"Go to a map task\"]'); jump.value = '12345'; jump.onchange(); return true; })()").await;
    desk.until("document.querySelector('#matrix-map [data-task=map-12345] .active') !== null").await;
    assert!(
        desk.value("document.querySelector('.overview').getAttribute('aria-label')")
            .await
            .as_str()
            .is_some_and(|told| told.starts_with("20,000 map tasks: "))
    );
    desk.picture("twenty-thousand").await;
    desk.stop().await;

    let phone = Browser::start(PHONE, true).await;
    phone.open(&page(&cluster, 1, &format!("jobs/{}", job.number()))).await;
    phone.until("document.querySelectorAll('#matrix-map .cell').length > 0").await;
    assert_eq!(phone.value("document.documentElement.scrollWidth").await, json!(PHONE.0));
    phone.picture("phone-twenty-thousand").await;
    phone.stop().await;
    let killed = quorate_tests::processes::run(cluster.quorate(&["job", "kill", &job.to_string()])).await;
    assert!(killed.status.success(), "{}", String::from_utf8_lossy(&killed.stderr));
    cluster.stop().await;
}
