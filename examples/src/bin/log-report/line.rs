//! Log lines of HDFS, Hadoop and the Apache web server.

/// A message, as far as the report needs it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Message<'a> {
    /// `INFO`, `WARN`, …
    pub(crate) level: &'a str,
    /// The class or module that wrote it.
    pub(crate) component: &'a str,
    /// `2015-10-18 18`.
    pub(crate) hour: String,
}

/// Reads a line in any of the three forms; `None` when it is in none of them.
pub(crate) fn parse(line: &str) -> Option<Message<'_>> {
    hadoop(line).or_else(|| hdfs(line)).or_else(|| apache(line))
}

/// `2015-10-18 18:01:47,978 INFO [main] org.apache.hadoop.mapreduce.v2.app.MRAppMaster: Created …`
fn hadoop(line: &str) -> Option<Message<'_>> {
    let (date, rest) = line.split_once(' ')?;
    let (time, rest) = rest.split_once(' ')?;
    let (level, rest) = rest.split_once(' ')?;
    let thread_end = rest.strip_prefix('[')?.find("] ")?;
    let component = rest.get(thread_end + 3..)?.split([':', ' ']).next()?;
    let hour = time.get(..2)?;
    if date.len() != 10 || !date.bytes().take(4).chain(hour.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(Message { level, component, hour: format!("{date} {hour}") })
}

/// `081109 203615 148 INFO dfs.DataNode$PacketResponder: PacketResponder 1 for …`
fn hdfs(line: &str) -> Option<Message<'_>> {
    let mut fields = line.split(' ');
    let (date, time, _process) = (fields.next()?, fields.next()?, fields.next()?);
    let (level, component) = (fields.next()?, fields.next()?.strip_suffix(':')?);
    if date.len() != 6 || time.len() != 6 || !date.bytes().chain(time.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let hour = format!("20{}-{}-{} {}", date.get(..2)?, date.get(2..4)?, date.get(4..)?, time.get(..2)?);
    Some(Message { level, component, hour })
}

/// `[Sun Dec 04 04:47:44 2005] [error] mod_jk child workerEnv in error state 6`
fn apache(line: &str) -> Option<Message<'_>> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (stamp, rest) = line.strip_prefix('[')?.split_once("] [")?;
    let (level, message) = rest.split_once("] ")?;
    let mut fields = stamp.split(' ').skip(1);
    let (month, day, time, year) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? / 3 + 1;
    let component = message.split(' ').next()?;
    Some(Message { level, component, hour: format!("{year}-{month:02}-{day} {}", time.get(..2)?) })
}
