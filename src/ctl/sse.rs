//! Server-sent events: bytes in pieces to messages (WHATWG HTML, section 9.2.6), as far as our API uses them: an event's number is in its data too.

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// `event:`; empty for the usual kind.
    pub(super) event: String,
    /// `data:`, several joined by line feeds.
    pub(super) data: String,
}

/// Takes bytes as they come.
#[derive(Debug, Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    message: Message,
}

impl Parser {
    /// The messages that these bytes complete.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<Message> {
        let mut done = Vec::new();
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned();
            self.take(&line, &mut done);
        }
        done
    }

    fn take(&mut self, line: &str, done: &mut Vec<Message>) {
        if line.is_empty() {
            let message = std::mem::take(&mut self.message);
            if !message.data.is_empty() {
                done.push(message);
            }
            return;
        }
        // A line that begins with a colon is a comment, which servers send to keep the connection open.
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if !self.message.data.is_empty() {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\n\nid: 7\r\ndata: {\"a\":\"\xc3\xa4\"}\r\n\r\nevent: problem\ndata:1\ndata: 2\n\nid: 9\n\ndata: cut";

    #[test]
    fn messages_survive_any_cut() {
        let whole = Parser::default().feed(STREAM);
        assert_eq!(whole, [Message { data: "{\"a\":\"ä\"}".into(), ..Message::default() }, Message { event: "problem".into(), data: "1\n2".into() },]);
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let pieces: Vec<Message> = STREAM.chunks(size).flat_map(|piece| parser.feed(piece)).collect();
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
    }
}
