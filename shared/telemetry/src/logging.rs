//! Log lines: one JSON object a line, or one line of text for people.
//!
//! A JSON line holds `time` (RFC 3339, UTC, milliseconds), `level` in lower case and `msg`, then the
//! event's fields, the fields of its spans from the innermost out, and the common fields. Numbers and
//! booleans stay what they are. No name occurs twice: what is nearer to the event wins.
//!
//! An event's field `members` is a JSON object as text, and its members stand in the line as fields: for lists, which
//! tracing's fields can't hold. Such an event has no other field.
//!
//! A layer of our own, since `tracing-subscriber`'s JSON nests fields and spells levels in capitals,
//! and users' alerts match these lines as they are.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use keeper_contract::{LogFormat, LogLevel};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{SetGlobalDefaultError, Subscriber};
use tracing::{Event, Level};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};

use crate::json::{is_hidden, to_json};

/// The field that holds a line's members.
const MEMBERS: &str = "members";

/// Sends the process's log lines to standard error from now on.
///
/// `fields` stand in every line. Our own crates log from `level` on, dependencies only warnings and
/// errors. A panic becomes a line too: its place, and its message only if that is a literal, because a
/// formatted one could hold anything.
///
/// # Errors
/// If the process already has a log.
pub fn init_logging(
    format: LogFormat,
    level: LogLevel,
    fields: &[(&'static str, String)],
) -> Result<(), SetGlobalDefaultError> {
    let layer = LogLayer::new(format, fields, io::stderr());
    tracing::subscriber::set_global_default(Registry::default().with(layer.filtered(level)))?;
    std::panic::set_hook(Box::new(|panic| {
        let message = panic
            .payload()
            .downcast_ref::<&'static str>()
            .copied()
            .unwrap_or_default();
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(panic = message, place, "a task panicked");
    }));
    Ok(())
}

/// This moment as log lines have it: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn timestamp() -> String {
    let mut time = String::new();
    // Writing to a string cannot fail; the timer gives microseconds.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    time.truncate("2026-01-01T00:00:00.000".len());
    time.push('Z');
    time
}

/// Writes each event as one line to `W`, with a single write.
pub struct LogLayer<W> {
    format: LogFormat,
    common: Vec<(&'static str, Value)>,
    writer: Mutex<W>,
}

impl<W: Write + Send + 'static> LogLayer<W> {
    /// A layer with these common fields.
    pub fn new(format: LogFormat, fields: &[(&'static str, String)], writer: W) -> Self {
        let common = fields
            .iter()
            .map(|(name, value)| (*name, Value::from(value.as_str())))
            .collect();
        Self {
            format,
            common,
            writer: Mutex::new(writer),
        }
    }

    /// The layer behind the filter that [`init_logging`] uses: our crates from `level` on, others only
    /// warnings and errors.
    pub fn filtered<S>(self, level: LogLevel) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let ours = match level {
            LogLevel::Debug => LevelFilter::DEBUG,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Error => LevelFilter::ERROR,
        };
        let filter = Targets::new()
            .with_target("keeper_", ours)
            // Reports as an error what it returns as one, so each failure would be there twice.
            .with_target("kube_client", LevelFilter::OFF)
            .with_default(ours.min(LevelFilter::WARN));
        self.with_filter(filter)
    }

    fn line(&self, level: Level, fields: &Fields) -> String {
        let time = timestamp();
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            Level::DEBUG | Level::TRACE => "debug",
        };
        let mut line = String::with_capacity(256);
        let _ = match self.format {
            LogFormat::Json => write_json(&mut line, &time, level, fields),
            LogFormat::Text => write_text(&mut line, &time, level, fields),
        };
        line
    }
}

impl<S, W> Layer<S> for LogLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Send + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.inherit(&outer.named);
            }
        }
        fields.inherit(&self.common);
        let line = self.line(*event.metadata().level(), &fields);
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that can't be written can't be complained about either.
        let _ = writer.write_all(line.as_bytes());
    }
}

/// The fields of one event or span, in the order of their recording.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(&'static str, Value)>,
    /// A JSON object as text.
    members: Option<String>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: Value) {
        let name = field.name().trim_start_matches("r#");
        match self.named.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.named.push((name, value)),
        }
    }

    /// Takes over what is not set already.
    fn inherit(&mut self, outer: &[(&'static str, Value)]) {
        for (name, value) in outer {
            if !self.named.iter().any(|(known, _)| known == name) {
                self.named.push((name, value.clone()));
            }
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.set(field, Value::from(format!("{value:?}")));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message = value.to_owned();
        } else if field.name() == MEMBERS && is_object(value) {
            self.members = Some(value.to_owned());
        } else {
            self.set(field, Value::from(value));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some libraries repeat the cause in their own text.
            if !text.contains(&cause_text) {
                let _ = write!(text, ": {cause_text}");
            }
            source = cause.source();
        }
        self.set(field, Value::from(text));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, Value::from(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, Value::from(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, Value::from(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, Value::from(value));
    }
}

/// Whether this is one JSON object on one line, so that it can be copied into a line.
fn is_object(text: &str) -> bool {
    text.starts_with('{')
        && text.ends_with('}')
        && !text.contains('\n')
        && serde_json::from_str::<&RawValue>(text).is_ok()
}

fn write_json(line: &mut String, time: &str, level: &str, fields: &Fields) -> fmt::Result {
    let message = json(fields.message.as_str());
    write!(
        line,
        r#"{{"time":"{time}","level":"{level}","msg":{message}"#
    )?;
    for (name, value) in &fields.named {
        // The three names above are taken.
        let prefix = if matches!(*name, "time" | "level" | "msg") {
            "field_"
        } else {
            ""
        };
        write!(line, r#","{prefix}{name}":{}"#, json(value))?;
    }
    let members = fields.members.as_deref().unwrap_or("{}");
    if let Some(members) = members.strip_prefix("{").filter(|members| *members != "}") {
        write!(line, ",{members}")?;
    } else {
        line.push('}');
    }
    line.push('\n');
    Ok(())
}

fn write_text(line: &mut String, time: &str, level: &str, fields: &Fields) -> fmt::Result {
    write!(line, "{time} {level:<5} ")?;
    write_plain(line, &fields.message)?;
    for (name, value) in &fields.named {
        write_named(line, name, value)?;
    }
    let members = fields.members.as_deref().map(serde_json::from_str);
    if let Some(Ok(Value::Object(members))) = members {
        for (name, value) in &members {
            write_named(line, name, value)?;
        }
    }
    line.push('\n');
    Ok(())
}

fn write_named(line: &mut String, name: &str, value: &Value) -> fmt::Result {
    write!(line, " {name}=")?;
    match value {
        Value::String(text) if !text.contains([' ', '"', '=']) && !text.is_empty() => {
            write_plain(line, text)
        }
        other => line.write_str(&json(other)),
    }
}

/// Strings, numbers and lists of them always have a JSON form.
fn json<T: Serialize + ?Sized>(value: &T) -> String {
    to_json(value).unwrap_or_default()
}

/// What is hidden escaped, so that nobody's text can start a line of its own or colour a terminal.
fn write_plain(line: &mut String, text: &str) -> fmt::Result {
    for character in text.chars() {
        if is_hidden(character) {
            write!(line, "{}", character.escape_default())?;
        } else {
            line.push(character);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LogLevel, log: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let common = [
            ("pod", "web-1".to_owned()),
            ("namespace", "shop".to_owned()),
        ];
        let layer = LogLayer::new(format, &common, sink.clone()).filtered(level);
        tracing::subscriber::with_default(Registry::default().with(layer), log);
        let bytes = sink.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn json_line(log: impl FnOnce()) -> String {
        let lines = logged(LogFormat::Json, LogLevel::Debug, log);
        assert_eq!(lines.len(), 1, "{lines:?}");
        serde_json::from_str::<Value>(&lines[0]).unwrap();
        lines[0].clone()
    }

    /// The line after its time stamp.
    fn tail(line: &str) -> &str {
        line.split_once("Z\",").unwrap().1
    }

    #[test]
    fn the_documented_lines_stay_as_they_are() {
        let line = json_line(|| {
            tracing::info!(count = 3, duration = "142ms", "secrets updated");
        });
        assert_eq!(
            tail(&line),
            r#""level":"info","msg":"secrets updated","count":3,"duration":"142ms","pod":"web-1","namespace":"shop"}"#
        );
    }

    #[test]
    fn the_time_is_rfc_3339_in_utc_with_milliseconds() {
        let line = json_line(|| tracing::info!("x"));
        let time = line
            .strip_prefix(r#"{"time":""#)
            .unwrap()
            .split('"')
            .next()
            .unwrap();
        let shape: String = time
            .chars()
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000Z");
    }

    #[test]
    fn values_keep_their_types() {
        let line = json_line(|| {
            let missing: Option<&str> = None;
            let error = io::Error::other("disk \"a\"\nfull");
            let source: &(dyn Error + 'static) = &error;
            tracing::error!(
                ok = true,
                ratio = 0.5,
                n = -1,
                missing,
                error = source,
                level = 7,
                "x"
            );
        });
        assert_eq!(
            tail(&line),
            r#""level":"error","msg":"x","ok":true,"ratio":0.5,"n":-1,"error":"disk \"a\"\nfull","field_level":7,"pod":"web-1","namespace":"shop"}"#
        );
    }

    #[test]
    fn members_are_fields_of_the_line_and_may_be_lists() {
        let log = || {
            let members = r#"{"user":"a b","groups":["x,y","z"],"uid":"\u202e"}"#;
            tracing::info!(members, "x");
            tracing::info!(members = "{}", "x");
            // What is no object stays a text.
            tracing::info!(members = "{\"a\":1},{\"b\":2}", "x");
        };
        let lines = logged(LogFormat::Json, LogLevel::Info, log);
        let common = r#""pod":"web-1","namespace":"shop""#;
        assert_eq!(
            tail(&lines[0]),
            format!(
                r#""level":"info","msg":"x",{common},"user":"a b","groups":["x,y","z"],"uid":"\u202e"}}"#
            )
        );
        assert_eq!(
            tail(&lines[1]),
            format!(r#""level":"info","msg":"x",{common}}}"#)
        );
        assert_eq!(
            tail(&lines[2]),
            format!(r#""level":"info","msg":"x","members":"{{\"a\":1}},{{\"b\":2}}",{common}}}"#)
        );
        let lines = logged(LogFormat::Text, LogLevel::Info, log);
        assert!(
            lines[0].ends_with(r#" groups=["x,y","z"] uid=\u{202e} user="a b""#),
            "{}",
            lines[0]
        );
    }

    #[test]
    fn an_error_is_told_with_its_causes_but_nothing_twice() {
        #[derive(Debug)]
        struct Chain(&'static str, Option<Box<Chain>>);
        impl fmt::Display for Chain {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.0)
            }
        }
        impl Error for Chain {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                self.1.as_deref().map(|cause| cause as _)
            }
        }
        let cause = Chain("no route", Some(Box::new(Chain("device down", None))));
        let middle = Chain("cannot connect: no route", Some(Box::new(cause)));
        let error = Chain("cannot fetch", Some(Box::new(middle)));
        let line = json_line(|| tracing::warn!(error = &error as &(dyn Error + 'static), "x"));
        let expected = r#""error":"cannot fetch: cannot connect: no route: device down""#;
        assert!(line.contains(expected), "{line}");
    }

    #[test]
    fn fields_of_spans_are_in_the_line_and_no_name_is_there_twice() {
        let line = json_line(|| {
            let outer = tracing::info_span!("outer", request = "r1", pod = "other");
            let _outer = outer.enter();
            let inner = tracing::info_span!("inner", request = "r2", late = tracing::field::Empty);
            inner.record("late", 5);
            let _inner = inner.enter();
            tracing::warn!(namespace = "mine", "x");
        });
        assert_eq!(
            tail(&line),
            r#""level":"warn","msg":"x","namespace":"mine","request":"r2","late":5,"pod":"other"}"#
        );
    }

    #[test]
    fn others_are_heard_only_from_warnings_on() {
        let log = || {
            tracing::info!(target: "hyper::proto", "noise");
            tracing::warn!(target: "hyper::proto", "theirs");
            tracing::error!(target: "kube_client::client", "returned as well");
            tracing::debug!(target: "keeper_agent::fetch", "ours, small");
            tracing::info!(target: "keeper_agent::fetch", "ours");
        };
        let messages = |level| -> Vec<String> {
            let lines = logged(LogFormat::Json, level, log);
            let message = |line: &String| {
                let value: Value = serde_json::from_str(line).unwrap();
                value["msg"].as_str().unwrap().to_owned()
            };
            lines.iter().map(message).collect()
        };
        assert_eq!(messages(LogLevel::Debug), ["theirs", "ours, small", "ours"]);
        assert_eq!(messages(LogLevel::Info), ["theirs", "ours"]);
        assert_eq!(messages(LogLevel::Warn), ["theirs"]);
        assert_eq!(messages(LogLevel::Error), [""; 0]);
    }

    #[test]
    fn text_is_one_line_without_control_characters() {
        let lines = logged(LogFormat::Text, LogLevel::Info, || {
            tracing::warn!(a = 1, b = "two words", c = "x\u{1b}[31m", "first\nsecond");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        let (_, rest) = lines[0].split_once("Z ").unwrap();
        assert_eq!(
            rest,
            r#"warn  first\nsecond a=1 b="two words" c=x\u{1b}[31m pod=web-1 namespace=shop"#
        );
    }
}
