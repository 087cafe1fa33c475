//! Requests that are written, and answers that are read, where they lie.

use std::io::{Read, Write};
use std::time::Duration;

use poolyard_core::Reuse;
use poolyard_process::{Cause, Deadline, Phase, WorkerSpec};

use crate::calls::verdict;
use crate::support::{Bench, gone, role, soon};

const HALF: usize = 1 << 20;

fn with_arena() -> WorkerSpec {
    role("frames").arena(2 * HALF)
}

fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|n| (n % 251) as u8).collect()
}

#[tokio::test]
async fn requests_in_pieces_come_back_however_the_answer_is_read() {
    let bench = Bench::new();
    for spec in [with_arena(), role("frames"), WorkerSpec::entry("puppet").arena(2 * HALF)] {
        let mut worker = bench.worker(spec).await;
        for size in [0, 1, 100, 40_001, HALF - 1, HALF, HALF + 1, 3 * HALF] {
            let payload = bytes(size);
            let mut request = worker.request();
            payload.chunks(30_011).for_each(|piece| request.push(piece));
            let mut answer = request.call(soon()).await.expect("an echo");
            assert_eq!((answer.len(), answer.is_empty()), (size, size == 0));
            let mut middle = vec![0; size / 3];
            assert_eq!(answer.read_at(size / 2, &mut middle), middle.len());
            assert!(middle == payload[size / 2..][..size / 3], "{size} bytes");
            assert_eq!(answer.read_at(size, &mut [0; 9]), 0);
            assert_eq!(answer.read_at(usize::MAX, &mut [0; 9]), 0);
            let mut read = Vec::new();
            answer.read_to_end(&mut read).expect("no error");
            assert!(read == payload && answer.into_vec() == payload, "{size} bytes");
            // A call of the other kind in between.
            assert!(worker.call(&payload, soon()).await.expect("an echo") == payload, "{size} bytes");
        }
        assert_eq!(worker.calls(), 16);
    }
}

#[tokio::test]
async fn parts_come_before_what_lies_in_the_arena() {
    let bench = Bench::new();
    let mut worker = bench.worker(with_arena()).await;
    let mut request = worker.request();
    write!(request, "parts {}", 3).expect("written");
    let answer = request.call(soon()).await.expect("parts");
    let mut end = [0; 5];
    assert_eq!((answer.read_at(4, &mut end), &end), (5, b"2,end"));
    assert_eq!(answer.into_vec(), b"0,1,2,end");
}

#[tokio::test]
async fn a_small_request_can_have_a_large_answer_in_the_arena_or_too_large_for_it() {
    let bench = Bench::new();
    let mut worker = bench.worker(with_arena()).await;
    for size in [HALF, HALF + 1] {
        let mut request = worker.request();
        write!(request, "size {size}").expect("written");
        assert_eq!(request.call(soon()).await.expect("an answer").into_vec(), vec![b'x'; size]);
    }
}

#[tokio::test]
async fn a_request_that_is_dropped_or_an_answer_that_is_not_read_leaves_the_worker_usable() {
    let bench = Bench::new();
    let spec = with_arena();
    let mut worker = bench.worker(spec.clone()).await;
    worker.request().push(&bytes(HALF));
    assert_eq!((worker.calls(), verdict(&bench, &spec, &mut worker)), (0, Reuse::Now));
    let mut request = worker.request();
    request.push(&bytes(HALF));
    drop(request.call(soon()).await.expect("an echo"));
    assert_eq!(worker.call(b"next", soon()).await.expect("an echo"), b"next");
    let mut request = worker.request();
    request.push(b"fail not today");
    let error = request.call(soon()).await.err().expect("a refusal");
    assert_eq!(error.cause(), &Cause::Failed("not today".into()));
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Now);
}

#[tokio::test]
async fn a_dropped_or_late_call_in_place_leaves_a_worker_that_nobody_gets() {
    let bench = Bench::new();
    let spec = with_arena();
    let mut worker = bench.worker(spec.clone()).await;
    let mut request = worker.request();
    request.push(b"hang");
    let call = request.call(soon());
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err());
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
    // It may still be reading its arena, which is left alone.
    let mut request = worker.request();
    request.push(&bytes(HALF));
    let error = request.call(soon()).await.err().expect("a worker that is halfway");
    assert_eq!(error.cause(), &Cause::Desynchronised);

    let mut worker = bench.worker(spec.clone()).await;
    let mut request = worker.request();
    request.push(b"hang");
    let error = request.call(Deadline::after(Duration::from_millis(20))).await.err().expect("late");
    assert_eq!((error.cause(), error.phase()), (&Cause::Deadline, Phase::Wait));
    assert_eq!(verdict(&bench, &spec, &mut worker), Reuse::Broken);
}

#[tokio::test]
async fn an_answer_can_be_read_though_its_worker_is_dead() {
    let bench = Bench::new();
    let mut worker = bench.worker(with_arena()).await;
    let pid = worker.pid();
    let mut request = worker.request();
    request.push(&bytes(HALF));
    let answer = request.call(soon()).await.expect("an echo");
    let killed = std::process::Command::new("kill").arg("-KILL").arg(pid.to_string()).status();
    assert!(killed.expect("kill runs").success());
    gone(pid).await;
    assert!(answer.into_vec() == bytes(HALF));
    let error = worker.request().call(soon()).await.err().expect("dead");
    assert!(matches!(error.cause(), Cause::Exited(_)), "{error}");
}

#[tokio::test]
async fn an_answer_that_claims_more_than_the_arena_holds_is_malformed() {
    let bench = Bench::new();
    let script = r#"
import struct, sys
i, o = sys.stdin.buffer, sys.stdout.buffer
o.write(struct.pack("<IIB3x", 0, 0, 16)); o.flush()
n, id, kind = struct.unpack("<IIB3x", i.read(12)); i.read(n)
o.write(struct.pack("<IIB3xQ", 8, id, 23, int(sys.argv[1]))); o.flush()
i.read()
"#;
    for (claim, fits) in [(HALF as u64, true), (HALF as u64 + 1, false), (u64::MAX, false)] {
        for in_place in [false, true] {
            let spec = WorkerSpec::command("python3").args(["-I", "-S", "-c", script, &claim.to_string()]);
            let mut worker = bench.worker(spec.arena(2 * HALF)).await;
            let cause = match in_place {
                true => worker.request().call(soon()).await.err().map(|error| error.cause().clone()),
                false => worker.call(b"x", soon()).await.err().map(|error| error.cause().clone()),
            };
            assert_eq!(matches!(cause, Some(Cause::Malformed(_))), !fits, "{claim} {in_place} {cause:?}");
        }
    }
}

#[tokio::test]
async fn a_batch_of_large_requests_does_not_share_the_arena() {
    let bench = Bench::new();
    let mut worker = bench.worker(with_arena()).await;
    let requests: Vec<Vec<u8>> = (0..6).map(|n| vec![n; 100_000]).collect();
    let answers = worker.call_batch(&requests, soon()).await.expect("answers");
    assert!(answers.iter().zip(&requests).all(|(answer, request)| answer.as_ref() == Ok(request)));
}
