//! Whatever bytes come, each decoder gives a value or an error, on both sides of the protocol.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};
use poolyard_exec::{Command, Limits};
use poolyard_guest::frame::{self, HEADER, MAGIC};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::channel::{self, Message};
use crate::decode::{Plan, Request, make_addresses};
use crate::landlock::Landlock;
use crate::lease::Exit;
use crate::mode::Mode;
use crate::protocol::Kind;
use crate::spec::SandboxSpec;
use crate::{plan, request};

/// A frame of any kind around any body.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    (0u16..20, any::<u16>(), vec(any::<u8>(), 0..220)).prop_map(|(kind, flags, body)| {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend(kind.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(7u32.to_le_bytes());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes
    })
}

/// A valid frame in which some bytes are wrong.
fn damaged(frame: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let len = frame.len();
    vec((HEADER..len, any::<u8>()), 0..6).prop_map(move |changes| {
        let mut frame = frame.clone();
        changes.into_iter().for_each(|(at, byte)| frame[at] = byte);
        frame
    })
}

fn exec_frame() -> Vec<u8> {
    let command = Command::new("program").args(["a", "b"]).env("NAME", "value");
    let limits = Limits::new().open_files(10).cpu_set([0, 3]).file_size(99);
    request::encode(&command, &limits, b"/box", &[0, 1, 2]).unwrap().frame
}

fn create_frame() -> Vec<u8> {
    let rules = Landlock::new().read("/usr").write("/box").connect(443).scoped();
    let spec = SandboxSpec::builder().landlock(rules).build();
    plan::encode(spec.inner(), &Mode::SingleUid.ids().unwrap(), Some("/cgroup".as_ref()), &Ok(7)).unwrap()
}

/// What the host makes of a datagram that a process of the sandbox sends.
fn received(datagram: &[u8]) -> Option<Message> {
    let (ours, theirs): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    send(theirs.as_raw_fd(), datagram, MsgFlags::empty()).unwrap();
    channel::receive(ours.as_raw_fd()).ok().flatten()
}

/// The runner's way from a datagram to its tables.
fn decode_exec(datagram: &[u8]) -> bool {
    let Ok(request) = Request::parse(datagram) else { return false };
    let mut words = datagram[request.words_at..].to_vec();
    assert!(request.targets().len() <= 64 && request.mask_len <= 128 && request.limit_count <= 16);
    [0, request.argv, request.envp].into_iter().all(|table| make_addresses(&mut words, table).is_ok())
}

fn decode_create(datagram: &[u8]) -> bool {
    frame::parse(datagram).is_ok_and(|(header, body)| Plan::parse(header.flags, body).is_ok())
}

#[test]
fn what_the_host_encodes_the_guest_decodes() {
    assert!(decode_exec(&exec_frame()));
    assert!(decode_create(&create_frame()));
}

proptest! {
    #[test]
    fn a_message_of_the_sandbox_is_understood_or_refused(datagram in any_frame()) {
        if let Some(message) = received(&datagram) {
            prop_assert!(Kind::ALL.contains(&message.kind));
            let _ = (message.failure(), Exit::parse(&message));
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused(datagram in vec(any::<u8>(), 1..300)) {
        prop_assume!(!datagram.starts_with(b"pyrd"));
        prop_assert!(received(&datagram).is_none());
        prop_assert!(!decode_exec(&datagram) && !decode_create(&datagram));
    }

    #[test]
    fn a_damaged_command_is_understood_or_refused(datagram in damaged(exec_frame())) {
        decode_exec(&datagram);
    }

    #[test]
    fn a_damaged_plan_is_understood_or_refused(datagram in damaged(create_frame())) {
        decode_create(&datagram);
    }

    #[test]
    fn a_table_leads_nowhere_but_into_its_words(
        mut words in vec(prop_oneof![Just(0u8), 0u8..64, any::<u8>()], 8..200),
        at in 0usize..200,
    ) {
        *words.last_mut().unwrap() = 0;
        let (start, len) = (words.as_ptr() as u64, words.len() as u64);
        if make_addresses(&mut words, at).is_ok() {
            for entry in words[at..].chunks_exact(8) {
                let address = u64::from_le_bytes(entry.try_into().unwrap());
                if address == 0 {
                    break;
                }
                prop_assert!((start..start + len).contains(&address));
            }
        }
    }
}
