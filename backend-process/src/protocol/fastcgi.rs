//! [`FastCgi`]: the responder role of FastCGI 1.0, as php-cgi and many others speak it.

use super::{Event, Input, Malformed, Protocol, Word};

const HEADER: usize = 8;
const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
/// One call at a time and connection, so one number is enough.
const REQUEST: u16 = 1;
/// The most that fits into one record, rounded so that no padding is needed.
const MAX_CONTENT: usize = 0xfff8;

/// FastCGI over a socket that the worker listens on as its descriptor 0; see
/// [`Channel::Listener`](crate::Channel::Listener). The connection is kept.
#[derive(Clone, Debug, Default)]
pub struct FastCgi;

/// A request to a FastCGI program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgiRequest {
    /// CGI variables: `SCRIPT_FILENAME`, `REQUEST_METHOD` and the like.
    pub params: Vec<(String, String)>,
    /// The request's body.
    pub body: Vec<u8>,
}

impl CgiRequest {
    /// A GET of this script.
    pub fn get(script: impl Into<String>, query: impl Into<String>) -> Self {
        let script = script.into();
        Self::default()
            .param("REQUEST_METHOD", "GET")
            .param("SCRIPT_FILENAME", script.clone())
            .param("SCRIPT_NAME", script)
            .param("QUERY_STRING", query)
            .param("SERVER_PROTOCOL", "HTTP/1.1")
            .param("GATEWAY_INTERFACE", "CGI/1.1")
    }

    /// A POST of this body to this script.
    pub fn post(script: impl Into<String>, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let mut request = Self::get(script, "");
        request.params.retain(|(name, _)| name != "REQUEST_METHOD");
        request.body = body;
        let length = request.body.len().to_string();
        request
            .param("REQUEST_METHOD", "POST")
            .param("CONTENT_TYPE", content_type)
            .param("CONTENT_LENGTH", length)
    }

    /// Adds a variable.
    pub fn param(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.params.push((name.into(), value.into()));
        self
    }
}

/// The response of a FastCGI program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CgiResponse {
    /// Header fields, an empty line, and the body.
    pub output: Vec<u8>,
    /// What it logged about this request.
    pub errors: Vec<u8>,
    /// Its exit status; 0 = success.
    pub app_status: u32,
}

impl CgiResponse {
    /// The HTTP status; 200 if it named none.
    pub fn status(&self) -> u16 {
        let status = self.header("Status").and_then(|text| text.split(' ').next()?.parse().ok());
        status.unwrap_or(200)
    }

    /// A header field.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (head, _) = self.split();
        let lines = head.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
        let mut fields = lines.filter_map(|line| line.trim_end().split_once(':'));
        fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// The body.
    pub fn body(&self) -> &[u8] {
        self.split().1
    }

    fn split(&self) -> (&[u8], &[u8]) {
        for end in [&b"\r\n\r\n"[..], b"\n\n"] {
            if let Some(at) = self.output.windows(end.len()).position(|window| window == end) {
                return (&self.output[..at], &self.output[at + end.len()..]);
            }
        }
        (&[], &self.output)
    }
}

impl Protocol for FastCgi {
    type Request = CgiRequest;
    type Response = CgiResponse;

    const HAS_IDS: bool = false;
    const SAYS_READY: bool = false;

    fn session(&self) -> Self {
        Self
    }

    fn encode(&mut self, _id: u32, request: &CgiRequest, out: &mut Vec<u8>) -> Result<(), Malformed> {
        const RESPONDER_KEEP_CONNECTION: [u8; 8] = [0, 1, 1, 0, 0, 0, 0, 0];
        record(BEGIN_REQUEST, &RESPONDER_KEEP_CONNECTION, out);
        let mut params = Vec::new();
        for (name, value) in &request.params {
            put_length(name.len(), &mut params);
            put_length(value.len(), &mut params);
            params.extend_from_slice(name.as_bytes());
            params.extend_from_slice(value.as_bytes());
        }
        stream(PARAMS, &params, out);
        stream(STDIN, &request.body, out);
        Ok(())
    }

    fn decode(&mut self, input: &mut Input) -> Result<Option<Event<CgiResponse>>, Malformed> {
        loop {
            let Some(&[version, kind, id0, id1, len0, len1, padding, _]) = input.bytes().first_chunk() else {
                input.want(HEADER)?;
                return Ok(None);
            };
            if version != VERSION || u16::from_be_bytes([id0, id1]) != REQUEST {
                return Err(not_a_record(input.bytes()));
            }
            let len = usize::from(u16::from_be_bytes([len0, len1]));
            let whole = HEADER + len + usize::from(padding);
            input.want(whole)?;
            if input.bytes().len() < whole {
                return Ok(None);
            }
            let content = input.bytes()[HEADER..HEADER + len].to_vec();
            input.consume(whole);
            if let Some(word) = word(kind, content)? {
                return Ok(Some(Event { id: 0, word }));
            }
        }
    }

    fn append(whole: &mut CgiResponse, part: CgiResponse) {
        whole.output.extend_from_slice(&part.output);
        whole.errors.extend_from_slice(&part.errors);
        whole.app_status = part.app_status;
    }
}

/// What a record says; `None` for the empty one that ends a stream.
fn word(kind: u8, content: Vec<u8>) -> Result<Option<Word<CgiResponse>>, Malformed> {
    let part = CgiResponse::default();
    Ok(match kind {
        STDOUT | STDERR if content.is_empty() => None,
        STDOUT => Some(Word::Part(CgiResponse { output: content, ..part })),
        STDERR => Some(Word::Part(CgiResponse { errors: content, ..part })),
        END_REQUEST => {
            let Some(&[a, b, c, d, status, ..]) = content.first_chunk::<8>() else {
                return Err(Malformed::Unexpected("this end of a request"));
            };
            Some(match status {
                0 => Word::Done(CgiResponse { app_status: u32::from_be_bytes([a, b, c, d]), ..part }),
                2 => Word::Failed("the program is overloaded".into()),
                3 => Word::Failed("the program is no responder".into()),
                _ => Word::Failed("the program refuses the request".into()),
            })
        }
        _ => return Err(Malformed::Unexpected("a record of this type")),
    })
}

fn not_a_record(bytes: &[u8]) -> Malformed {
    let start = &bytes[..bytes.len().min(200)];
    Malformed::NotAMessage(format!("not a FastCGI record: \"{}\"", start.escape_ascii()))
}

/// A stream is any number of records and an empty one.
fn stream(kind: u8, content: &[u8], out: &mut Vec<u8>) {
    content.chunks(MAX_CONTENT).for_each(|chunk| record(kind, chunk, out));
    record(kind, &[], out);
}

fn record(kind: u8, content: &[u8], out: &mut Vec<u8>) {
    let [id0, id1] = REQUEST.to_be_bytes();
    let [len0, len1] = (content.len() as u16).to_be_bytes();
    out.extend_from_slice(&[VERSION, kind, id0, id1, len0, len1, 0, 0]);
    out.extend_from_slice(content);
}

/// One byte up to 127, else four.
fn put_length(len: usize, out: &mut Vec<u8>) {
    match u8::try_from(len) {
        Ok(len) if len < 0x80 => out.push(len),
        _ => out.extend_from_slice(&(len as u32 | 1 << 31).to_be_bytes()),
    }
}
