//! What every protocol promises about bytes from the other side.

use proptest::prelude::*;

use super::{Bazel, BazelFormat, Event, FastCgi, Frames, Input, JsonLines, Malformed, Protocol, Word};

/// Feeds bytes in pieces of the given sizes, and collects what they mean until the first error.
fn decode<P: Protocol>(
    protocol: &mut P,
    bytes: &[u8],
    pieces: &[usize],
    max: usize,
) -> (Vec<Event<P::Response>>, Option<Malformed>) {
    let (mut input, mut events) = (Input::new(max), Vec::new());
    let mut rest = bytes;
    let mut pieces = pieces.iter().copied().filter(|piece| *piece > 0).cycle();
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(pieces.next().unwrap_or(rest.len()).min(rest.len()));
        rest = later;
        input.extend(piece);
        loop {
            match protocol.decode(&mut input) {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break,
                Err(malformed) => return (events, Some(malformed)),
            }
        }
    }
    (events, None)
}

fn frame(id: u32, kind: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u32;
    [&len.to_le_bytes()[..], &id.to_le_bytes(), &[kind, 0, 0, 0], payload].concat()
}

fn record(kind: u8, content: &[u8], padding: u8) -> Vec<u8> {
    let [a, b] = (content.len() as u16).to_be_bytes();
    [&[1, kind, 0, 1, a, b, padding, 0][..], content, &vec![0; padding.into()]].concat()
}

/// Bytes that are now and then almost a message.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let near_frame = (any::<u32>(), 0..40_u8, prop::collection::vec(any::<u8>(), 0..40));
    let near_frame = near_frame.prop_map(|(id, kind, payload)| frame(id, kind, &payload));
    let near_record = (0..12_u8, prop::collection::vec(any::<u8>(), 0..40), any::<u8>());
    let near_record = near_record.prop_map(|(kind, content, padding)| record(kind, &content, padding));
    let near_json = "[{}\\[\\]\",:a-z0-9\\\\ \n]{0,80}".prop_map(String::into_bytes);
    let part = prop_oneof![noise, near_frame, near_record, near_json];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic_or_hold_more_than_is_allowed(
        bytes in hostile(),
        pieces in prop::collection::vec(0..50_usize, 1..8),
        max in 0..300_usize,
    ) {
        decode(&mut Frames::default(), &bytes, &pieces, max);
        decode(&mut JsonLines::<str, serde_json::Value>::default(), &bytes, &pieces, max);
        decode(&mut Bazel::new(BazelFormat::Proto), &bytes, &pieces, max);
        decode(&mut Bazel::new(BazelFormat::Json), &bytes, &pieces, max);
        decode(&mut FastCgi, &bytes, &pieces, max);
    }

    #[test]
    fn frames_mean_the_same_however_they_are_cut(
        payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..6),
        pieces in prop::collection::vec(0..90_usize, 1..8),
    ) {
        let bytes: Vec<u8> = (1..).zip(&payloads).flat_map(|(id, payload)| frame(id, 17, payload)).collect();
        let (events, error) = decode(&mut Frames::default(), &bytes, &pieces, 1000);
        prop_assert_eq!(error, None);
        let expected = (1..).zip(payloads).map(|(id, payload)| Event { id, word: Word::Done(payload) });
        prop_assert_eq!(events, expected.collect::<Vec<_>>());
    }

    #[test]
    fn json_responses_mean_the_same_however_they_are_cut(
        outputs in prop::collection::vec(".{0,60}", 1..6),
        pieces in prop::collection::vec(0..40_usize, 1..8),
        feeds in any::<bool>(),
    ) {
        let mut bytes = Vec::new();
        for (id, output) in (1..).zip(&outputs) {
            let text = serde_json::json!({"requestId": id, "output": output, "exitCode": 0, "new": [1, {"a": "}"}]});
            bytes.extend(text.to_string().bytes());
            if feeds {
                bytes.push(b'\n');
            }
        }
        let (events, error) = decode(&mut Bazel::new(BazelFormat::Json), &bytes, &pieces, 10_000);
        prop_assert_eq!(error, None);
        let found = events.into_iter().map(|event| match event.word {
            Word::Done(response) => (event.id, response.output),
            _ => (0, String::new()),
        });
        prop_assert_eq!(found.collect::<Vec<_>>(), (1..).zip(outputs).collect::<Vec<_>>());
    }

    #[test]
    fn a_bazel_response_survives_the_wire_with_fields_that_nobody_knows(
        id in 1..i32::MAX,
        code in any::<i32>(),
        output in ".{0,80}",
        pieces in prop::collection::vec(0..40_usize, 1..8),
    ) {
        let mut message = Vec::new();
        super::proto::put_number(1, code, &mut message);
        super::proto::put_text(2, &output, &mut message);
        super::proto::put_number(3, id, &mut message);
        super::proto::put_number(99, 5, &mut message);
        super::proto::put_bytes(98, b"later version", &mut message);
        let mut bytes = Vec::new();
        super::proto::put_varint(message.len() as u64, &mut bytes);
        bytes.extend(message);
        let (events, error) = decode(&mut Bazel::new(BazelFormat::Proto), &bytes, &pieces, 10_000);
        prop_assert_eq!(error, None);
        let Some(Event { id: seen, word: Word::Done(response) }) = events.first() else {
            return Err(TestCaseError::fail("no response"));
        };
        prop_assert_eq!((*seen, response.exit_code, &response.output), (id as u32, code, &output));
    }

    #[test]
    fn fastcgi_records_mean_the_same_however_they_are_cut(
        parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..200), any::<u8>()), 0..6),
        pieces in prop::collection::vec(0..70_usize, 1..8),
    ) {
        let mut bytes: Vec<u8> = parts.iter().flat_map(|(part, padding)| record(6, part, *padding)).collect();
        bytes.extend(record(6, &[], 0));
        bytes.extend(record(3, &[0, 0, 0, 9, 0, 0, 0, 0], 0));
        let (events, error) = decode(&mut FastCgi, &bytes, &pieces, 10_000);
        prop_assert_eq!(error, None);
        let mut output = Vec::new();
        let mut status = None;
        for event in events {
            match event.word {
                Word::Part(part) => output.extend(part.output),
                Word::Done(last) => status = Some(last.app_status),
                _ => {}
            }
        }
        prop_assert_eq!(status, Some(9));
        prop_assert_eq!(output, parts.into_iter().flat_map(|(part, _)| part).collect::<Vec<_>>());
    }
}

#[test]
fn a_message_without_end_is_refused_at_the_limit() {
    let endless = vec![b'1'; 5000];
    let (events, error) = decode(&mut JsonLines::<str, u32>::default(), &endless, &[100], 1000);
    assert!(events.is_empty() && matches!(error, Some(Malformed::TooLarge { max: 1000, .. })), "{error:?}");
    let open = [b"{\"output\": \"".to_vec(), endless].concat();
    let (_, error) = decode(&mut Bazel::new(BazelFormat::Json), &open, &[100], 1000);
    assert!(matches!(error, Some(Malformed::TooLarge { .. })), "{error:?}");
    let (_, error) = decode(&mut Frames::default(), &frame(1, 17, &[0; 2000]), &[100], 1000);
    assert!(matches!(error, Some(Malformed::TooLarge { len: 2012, .. })), "{error:?}");
}

#[test]
fn a_bazel_request_is_what_the_published_schema_says() {
    let request = super::WorkRequest {
        arguments: vec!["-o".into(), String::new()],
        inputs: vec![super::WorkInput { path: "a".into(), digest: vec![0xff] }],
        verbosity: 1,
        sandbox_dir: String::new(),
    };
    let mut bytes = Vec::new();
    Bazel::new(BazelFormat::Proto).encode(300, &request, &mut bytes).expect("encoded");
    let expected = b"\x13\x0a\x02-o\x0a\x00\x12\x06\x0a\x01a\x12\x01\xff\x18\xac\x02\x28\x01";
    assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
    bytes.clear();
    Bazel::new(BazelFormat::Json).encode(300, &request, &mut bytes).expect("encoded");
    let expected = "{\"arguments\":[\"-o\",\"\"],\"inputs\":[{\"path\":\"a\",\"digest\":\"/w==\"}],\"requestId\":300,\"verbosity\":1}\n";
    assert_eq!(String::from_utf8(bytes).expect("text"), expected);
    let mut bytes = Vec::new();
    assert!(Bazel::new(BazelFormat::Json).cancellable().cancel(300, &mut bytes));
    assert_eq!(bytes, b"{\"arguments\":[],\"requestId\":300,\"cancel\":true}\n");
    assert!(!Bazel::new(BazelFormat::Json).cancel(300, &mut bytes), "only if the worker has declared it");
}
