//! [`Bazel`]: the persistent-worker protocol of the Bazel build tool.

use serde::{Deserialize, Serialize};

use super::proto::{self, Field};
use super::{Event, Input, Malformed, Protocol, Word, base64, json_lines};

/// The protocol that Bazel speaks with compilers. A failed compilation (`exit_code` not 0) is a
/// response, not an error.
///
/// Every request carries an id that is not 0, and a response with another one is an error: a worker that
/// has lost count would otherwise answer each request with the response to the one before it.
///
/// Start the worker with `--persistent_worker`.
#[derive(Clone, Debug)]
pub struct Bazel {
    format: BazelFormat,
    cancellable: bool,
}

/// How messages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BazelFormat {
    /// Protocol buffers, each after its length.
    Proto,
    /// JSON texts. Requests end with a line feed; responses may have one or not.
    Json,
}

impl Bazel {
    /// The protocol in this format.
    pub fn new(format: BazelFormat) -> Self {
        Self { format, cancellable: false }
    }

    /// The worker has declared that it understands cancellation.
    pub fn cancellable(mut self) -> Self {
        self.cancellable = true;
        self
    }

    fn write(
        &self,
        id: u32,
        request: &WorkRequest,
        cancel: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Malformed> {
        match self.format {
            BazelFormat::Proto => {
                let mut message = Vec::new();
                request.put(id, cancel, &mut message);
                proto::put_varint(message.len() as u64, out);
                out.extend_from_slice(&message);
            }
            BazelFormat::Json => {
                let text = JsonRequest::new(id, request, cancel);
                let wrong = |error: serde_json::Error| Malformed::NotAMessage(error.to_string());
                serde_json::to_writer(&mut *out, &text).map_err(wrong)?;
                out.push(b'\n');
            }
        }
        Ok(())
    }
}

/// A file that the work reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkInput {
    /// Where it is.
    pub path: String,
    /// A digest of its content.
    pub digest: Vec<u8>,
}

/// What a worker is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkRequest {
    /// The arguments of the action.
    pub arguments: Vec<String>,
    /// What it reads.
    pub inputs: Vec<WorkInput>,
    /// How much it shall say; 0 = as usual.
    pub verbosity: i32,
    /// The directory below which the inputs are, for a worker that is sandboxed while multiplexed.
    pub sandbox_dir: String,
}

impl WorkRequest {
    /// Work with these arguments.
    pub fn new<A: Into<String>>(arguments: impl IntoIterator<Item = A>) -> Self {
        Self { arguments: arguments.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    fn put(&self, id: u32, cancel: bool, out: &mut Vec<u8>) {
        for argument in &self.arguments {
            // An empty argument is one all the same.
            proto::put_bytes(1, argument.as_bytes(), out);
        }
        for input in &self.inputs {
            let mut message = Vec::new();
            proto::put_text(1, &input.path, &mut message);
            if !input.digest.is_empty() {
                proto::put_bytes(2, &input.digest, &mut message);
            }
            proto::put_bytes(2, &message, out);
        }
        proto::put_number(3, id as i32, out);
        proto::put_number(4, cancel.into(), out);
        proto::put_number(5, self.verbosity, out);
        proto::put_text(6, &self.sandbox_dir, out);
    }
}

/// What a worker did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkResponse {
    /// 0 = success.
    pub exit_code: i32,
    /// What is to be shown to the user.
    pub output: String,
    /// The worker stopped because it was asked to.
    pub was_cancelled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JsonRequest<'a> {
    arguments: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    inputs: Vec<JsonInput<'a>>,
    request_id: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cancel: bool,
    #[serde(skip_serializing_if = "is_zero")]
    verbosity: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    sandbox_dir: &'a str,
}

#[derive(Serialize)]
struct JsonInput<'a> {
    path: &'a str,
    digest: String,
}

fn is_zero(number: &i32) -> bool {
    *number == 0
}

impl<'a> JsonRequest<'a> {
    fn new(request_id: u32, request: &'a WorkRequest, cancel: bool) -> Self {
        let input =
            |input: &'a WorkInput| JsonInput { path: &input.path, digest: base64::encode(&input.digest) };
        Self {
            arguments: &request.arguments,
            inputs: request.inputs.iter().map(input).collect(),
            request_id,
            cancel,
            verbosity: request.verbosity,
            sandbox_dir: &request.sandbox_dir,
        }
    }
}

/// Unknown fields are ignored, doubled ones are an error, absent ones have their default.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct JsonResponse {
    exit_code: i32,
    output: String,
    request_id: i32,
    was_cancelled: bool,
}

impl Protocol for Bazel {
    type Request = WorkRequest;
    type Response = WorkResponse;

    const HAS_IDS: bool = true;
    const SAYS_READY: bool = false;

    fn session(&self) -> Self {
        self.clone()
    }

    fn encode(&mut self, id: u32, request: &WorkRequest, out: &mut Vec<u8>) -> Result<(), Malformed> {
        self.write(id, request, false, out)
    }

    fn decode(&mut self, input: &mut Input) -> Result<Option<Event<WorkResponse>>, Malformed> {
        match self.format {
            BazelFormat::Proto => decode_proto(input),
            BazelFormat::Json => decode_json(input),
        }
    }

    fn append(whole: &mut WorkResponse, part: WorkResponse) {
        *whole = part;
    }

    fn cancel(&mut self, id: u32, out: &mut Vec<u8>) -> bool {
        self.cancellable && self.write(id, &WorkRequest::default(), true, out).is_ok()
    }
}

fn decode_proto(input: &mut Input) -> Result<Option<Event<WorkResponse>>, Malformed> {
    let Some(length) = proto::varint(input.bytes()) else {
        input.want_more()?;
        return Ok(None);
    };
    let too_large = Malformed::TooLarge { len: usize::MAX, max: input.max() };
    let Some((length, rest)) = length else { return Err(not_a_message(input.bytes())) };
    let here = input.bytes().len();
    let prefix = here - rest.len();
    let length = usize::try_from(length).map_err(|_| too_large.clone())?;
    let whole = prefix.checked_add(length).ok_or(too_large)?;
    input.want(whole)?;
    if here < whole {
        return Ok(None);
    }
    let message = &input.bytes()[prefix..whole];
    let event = parse_response(message).ok_or_else(|| not_a_message(input.bytes()))?;
    input.consume(whole);
    Ok(Some(event))
}

fn not_a_message(bytes: &[u8]) -> Malformed {
    let start = &bytes[..bytes.len().min(200)];
    Malformed::NotAMessage(format!("not a WorkResponse: \"{}\"", start.escape_ascii()))
}

fn parse_response(mut bytes: &[u8]) -> Option<Event<WorkResponse>> {
    let (mut response, mut id) = (WorkResponse::default(), 0);
    while !bytes.is_empty() {
        let (number, value, rest) = proto::field(bytes)?;
        bytes = rest;
        match (number, value) {
            (1, Field::Varint(code)) => response.exit_code = code as i32,
            (2, Field::Bytes(text)) => response.output = String::from_utf8_lossy(text).into_owned(),
            (3, Field::Varint(number)) => id = number as u32,
            (4, Field::Varint(flag)) => response.was_cancelled = flag != 0,
            (1..=4, _) => return None,
            _ => {}
        }
    }
    Some(Event { id, word: Word::Done(response) })
}

/// Responses are found by their own end, not by a line feed: Bazel's own library writes none.
fn decode_json(input: &mut Input) -> Result<Option<Event<WorkResponse>>, Malformed> {
    let mut texts = serde_json::Deserializer::from_slice(input.bytes()).into_iter::<JsonResponse>();
    let response = texts.next();
    let end = texts.byte_offset();
    match response {
        None => {
            let white = input.bytes().len();
            input.consume(white);
            Ok(None)
        }
        Some(Ok(response)) => {
            input.consume(end);
            let JsonResponse { exit_code, output, request_id, was_cancelled } = response;
            let response = WorkResponse { exit_code, output, was_cancelled };
            Ok(Some(Event { id: request_id as u32, word: Word::Done(response) }))
        }
        Some(Err(error)) if error.is_eof() => {
            input.want_more()?;
            Ok(None)
        }
        Some(Err(error)) => Err(json_lines::not_json(input.bytes(), &error)),
    }
}
