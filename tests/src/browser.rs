//! A real browser, headless, driven through WebDriver (feature `browser`): Chromium and its driver must be installed.
//!
//! What a test reads is what a person would see: the text and boxes that the browser has drawn.
//!
//! WebDriver is JSON over HTTP, and a test needs ten of its commands: see the [recommendation](https://www.w3.org/TR/webdriver2/).

use crate::processes::PATIENCE;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::{
    fmt, fs,
    io::{self, Read, Write},
    net::{self, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

/// A wide window, as on a desk.
pub const DESK: (u32, u32) = (1280, 900);
/// A narrow one, as on a small phone.
pub const PHONE: (u32, u32) = (360, 740);
/// How long a browser may take to end.
const GOODBYE: Duration = Duration::from_secs(5);

/// A browser with one window.
pub struct Browser {
    driver: Driver,
    /// The path of the session.
    session: String,
}

/// The driver's process, with the profile of its browser.
struct Driver {
    process: Child,
    address: String,
    profile: tempfile::TempDir,
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A browser ends with its session: one whose test fails would outlive its driver.
impl Drop for Browser {
    fn drop(&mut self) {
        let Ok(address) = self.driver.address.parse() else { return };
        let Ok(mut stream) = net::TcpStream::connect_timeout(&address, GOODBYE) else { return };
        let _ = stream.set_read_timeout(Some(GOODBYE));
        let _ = write!(stream, "DELETE {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n", self.session);
        let _ = stream.read(&mut [0; 64]);
    }
}

impl Browser {
    /// Starts a browser whose window is so large, on a system that prefers light or dark.
    ///
    /// # Panics
    /// When there is none: install the packages `chromium` and `chromium-driver`.
    pub async fn start((width, height): (u32, u32), is_dark: bool) -> Self {
        let profile = tempfile::Builder::new().prefix("quorate-browser-").tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
        let process = Command::new("chromedriver")
            .arg(format!("--port={}", address.port()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver: install the packages chromium and chromium-driver");
        let driver = Driver { process, address: address.to_string(), profile };
        let wanted = capabilities(driver.profile.path(), (width, height));
        let session = driver.session(&json!({ "capabilities": { "alwaysMatch": wanted } })).await;
        let this = Self { driver, session: format!("/session/{session}") };
        let scheme = if is_dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        this.tell("Emulation.setEmulatedMedia", media).await;
        this
    }

    /// Ends it.
    ///
    /// # Panics
    /// When the page has broken one of its own rules: an exception that nobody caught, or something that its content security policy
    /// forbids.
    pub async fn stop(self) {
        let problems = self.problems().await;
        assert!(problems.is_empty(), "the page has problems: {problems:#?}");
    }

    /// What the console says that is no failure to reach a server: those are expected of servers that were killed.
    async fn problems(&self) -> Vec<String> {
        let log = self.command("se/log", json!({ "type": "browser" })).await.expect("a log");
        let entries = log.as_array().cloned().unwrap_or_default();
        let is_problem = |entry: &Value| entry["level"] == "SEVERE" && entry["source"] != "network";
        entries.iter().filter(|entry| is_problem(entry)).map(|entry| entry["message"].to_string()).collect()
    }

    /// A command to the session.
    async fn command(&self, name: &str, body: Value) -> Result<Value, DriverError> {
        self.driver.send("POST", &format!("{}/{name}", self.session), Some(&body)).await
    }

    /// Asks the browser through its own protocol what WebDriver has no words for.
    async fn tell(&self, command: &str, parameters: Value) -> Value {
        self.command("goog/cdp/execute", json!({ "cmd": command, "params": parameters })).await.expect(command)
    }

    async fn execute(&self, script: &str) -> Result<Value, DriverError> {
        self.command("execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Goes to an address.
    ///
    /// # Panics
    /// When the browser does not.
    pub async fn open(&self, address: &str) {
        self.command("url", json!({ "url": address })).await.expect("the page opens");
    }

    /// The value of an expression, by the scripts' rules: elements that are not there give `undefined`.
    ///
    /// # Panics
    /// When it throws.
    pub async fn value(&self, expression: &str) -> Value {
        self.execute(&format!("return ({expression});")).await.expect(expression)
    }

    /// The value of a promise.
    ///
    /// # Panics
    /// When it is not kept.
    pub async fn promised(&self, expression: &str) -> Value {
        let script = format!(
            "const done = arguments[arguments.length - 1]; ({expression}).then(done, (error) => done(String(error)));"
        );
        self.command("execute/async", json!({ "script": script, "args": [] })).await.expect(expression)
    }

    /// The text of the first element that a selector finds, as it is seen; empty when there is none.
    pub async fn text(&self, selector: &str) -> String {
        let value = self.value(&format!("document.querySelector({})?.innerText ?? ''", json!(selector))).await;
        value.as_str().unwrap_or_default().to_owned()
    }

    /// The texts of all elements that a selector finds.
    pub async fn texts(&self, selector: &str) -> Vec<String> {
        let expression = format!("[...document.querySelectorAll({})].map((found) => found.innerText)", json!(selector));
        let found = self.value(&expression).await;
        found.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Clicks on what a selector finds, once it is there.
    pub async fn click(&self, selector: &str) {
        self.click_on("css selector", selector).await;
    }

    /// Clicks on a link by its text, once it is there.
    pub async fn follow(&self, text: &str) {
        self.click_on("link text", text).await;
    }

    /// Presses a button by its text, once it is there.
    pub async fn press_button(&self, text: &str) {
        self.click_on("xpath", &format!("//button[normalize-space()='{text}']")).await;
    }

    /// Clicks. A page that is drawn anew may take an element away between finding and clicking: then it is found again.
    async fn click_on(&self, strategy: &str, value: &str) {
        let begun = Instant::now();
        loop {
            let clicked = async {
                let found = self.command("element", json!({ "using": strategy, "value": value })).await?;
                self.command(&format!("element/{}/click", element(&found)), json!({})).await
            };
            match clicked.await {
                Ok(_) => return,
                Err(error) if begun.elapsed() > PATIENCE => {
                    self.fail(&format!("a click on {value}: {error}")).await;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Presses keys, one after the other, wherever the focus is.
    ///
    /// # Panics
    /// When the browser takes none.
    pub async fn press(&self, keys: &[char]) {
        for key in keys {
            let down = json!({ "type": "keyDown", "value": key });
            let up = json!({ "type": "keyUp", "value": key });
            let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": [down, up] }] });
            self.command("actions", actions).await.expect("a key");
        }
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// When it does not become true within [`PATIENCE`], with what the page shows instead, of which a picture is kept.
    pub async fn until(&self, expression: &str) {
        self.within(PATIENCE, expression).await;
    }

    /// Waits until a selector's text contains something.
    ///
    /// # Panics
    /// As [`Browser::until`].
    pub async fn until_says(&self, selector: &str, text: &str) {
        self.until(&format!("document.querySelector({})?.innerText.includes({})", json!(selector), json!(text))).await;
    }

    /// Waits until an expression is true, and says how long that took.
    ///
    /// # Panics
    /// When it takes longer than that.
    pub async fn within(&self, at_most: Duration, expression: &str) -> Duration {
        let begun = Instant::now();
        loop {
            // An error too says that it is not so yet: the page may be between two documents, or without what is read from it.
            if let Ok(Value::Bool(true)) = self.execute(&format!("return Boolean({expression});")).await {
                return begun.elapsed();
            }
            if begun.elapsed() > at_most {
                self.fail(expression).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What is waited for did not come.
    async fn fail(&self, what: &str) -> ! {
        self.picture("failed").await;
        let shown = self.text("body").await;
        panic!("waited in vain until {what}; there is a picture in {}; the page says:\n{shown}", pictures().display());
    }

    /// Keeps a picture of the whole page.
    ///
    /// # Panics
    /// When it cannot.
    pub async fn picture(&self, name: &str) {
        let size = self.value("[innerWidth, Math.min(document.documentElement.scrollHeight, 4000)]").await;
        let clip = json!({ "x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1 });
        let parameters = json!({ "format": "png", "captureBeyondViewport": true, "clip": clip });
        let taken = self.tell("Page.captureScreenshot", parameters).await;
        let encoded = taken["data"].as_str().expect("a picture");
        let bytes = STANDARD.decode(encoded).expect("base64");
        fs::create_dir_all(pictures()).expect("a folder");
        fs::write(pictures().join(format!("{name}.png")), bytes).expect("a file");
    }
}

/// Where pictures are kept: `target/screenshots`.
pub fn pictures() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"), PathBuf::from);
    target.join("screenshots")
}

fn capabilities(profile: &Path, (width, height): (u32, u32)) -> Value {
    let arguments = [
        "--headless",
        // The profile is new, and the only pages are those of the test.
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--hide-scrollbars",
        &format!("--user-data-dir={}", profile.display()),
        &format!("--window-size={width},{height}"),
    ]
    .map(str::to_owned);
    let mut options = json!({ "args": arguments });
    // A window is never narrower than a desk's: a phone is emulated.
    if width < 500 {
        options["mobileEmulation"] =
            json!({ "deviceMetrics": { "width": width, "height": height, "pixelRatio": 2.0 } });
    }
    json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } })
}

/// The name of an element in an answer, under the key that the recommendation gives it.
fn element(found: &Value) -> &str {
    found["element-6066-11e4-a52e-4f735466cecf"].as_str().unwrap_or_default()
}

/// What the driver answers instead of a value.
#[derive(Debug)]
enum DriverError {
    /// It is not there, or not yet.
    Connection(io::Error),
    /// It refuses, and says why.
    Refused(String),
}

impl fmt::Display for DriverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "the driver cannot be reached: {error}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl From<io::Error> for DriverError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl Driver {
    /// A new session, once the driver listens.
    async fn session(&self, wanted: &Value) -> String {
        let begun = Instant::now();
        loop {
            match self.send("POST", "/session", Some(wanted)).await {
                Ok(begun) => return begun["sessionId"].as_str().expect("a session").to_owned(),
                Err(error) => assert!(begun.elapsed() < PATIENCE, "no browser: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Sends a command, and gives the value of its answer.
    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, DriverError> {
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        let exchange = async {
            let mut stream = TcpStream::connect(&self.address).await?;
            stream.write_all(format!("{head}{body}").as_bytes()).await?;
            answer(BufReader::new(stream)).await
        };
        let answer = timeout(PATIENCE, exchange).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let mut answer: Value = serde_json::from_slice(&answer).map_err(io::Error::from)?;
        match answer["value"]["error"].as_str() {
            Some(error) => Err(DriverError::Refused(format!("{error}: {}", answer["value"]["message"]))),
            None => Ok(answer["value"].take()),
        }
    }
}

/// The body of an HTTP answer. The driver says how long it is, and keeps the connection.
async fn answer(mut stream: BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            Some(_) => {}
            None if line.trim_end().is_empty() => break,
            None => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
}
