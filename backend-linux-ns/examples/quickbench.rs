//! Scratch.
use poolyard_exec::*;
use poolyard_linux_ns::*;
use poolyard_core::*;
use std::time::*;
fn rep(n: &str, mut v: Vec<f64>) {
    v.sort_by(f64::total_cmp);
    let l = v.len();
    println!("{n:<30} min={:.1} p50={:.1} p90={:.1} p99={:.1}", v[0], v[l / 2], v[l * 9 / 10], v[l * 99 / 100]);
}
struct S; impl GoneSink for S { fn gone(&self, _: ResourceId, _: std::borrow::Cow<'static, str>) {} }
fn main() {
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    rt.block_on(async {
        let n: usize = std::env::args().nth(1).map_or(300, |a| a.parse().unwrap());
        let ns = LinuxNs::new().unwrap();
        let s: std::sync::Arc<dyn GoneSink> = std::sync::Arc::new(S);
        let cx = Context::standalone(ResourceId::standalone(1), Duration::from_secs(1000), std::sync::Arc::downgrade(&s));
        let spec = SandboxSpec::builder().tree("b", "/tmp/ns/bin").limits(Limits::new().memory(256 << 20).processes(64)).build();
        let mut v = vec![];
        for _ in 0..30 { let t = Instant::now(); let mut x = ns.sandbox(&spec).await.unwrap(); v.push(t.elapsed().as_secs_f64() * 1e6); ns.destroy(&spec, &mut x, Reason::Closed, &cx).await; }
        rep("create", v);
        let mut sb = ns.sandbox(&spec).await.unwrap();
        for prog in ["/b/tiny", "/bin/true"] {
            let cmd = Command::new(prog);
            let (mut run, mut rec) = (vec![], vec![]);
            let t0 = Instant::now();
            for i in 0..n + 20 {
                let t = Instant::now();
                let o = sb.exec(&cmd).await.unwrap();
                assert!(o.success());
                let a = t.elapsed().as_secs_f64() * 1e6;
                let t = Instant::now();
                ns.recycle(&spec, &mut sb, &cx).await.unwrap();
                let b = t.elapsed().as_secs_f64() * 1e6;
                if i >= 20 { run.push(a); rec.push(b); }
            }
            let total = t0.elapsed().as_secs_f64();
            rep(&format!("run {prog}"), run);
            rep("recycle", rec);
            println!("sustained {:.0}/s", (n + 20) as f64 / total);
            let host = if prog == "/b/tiny" { "/tmp/ns/tiny" } else { prog };
            let mut v = vec![];
            for _ in 0..n { let t = Instant::now(); std::process::Command::new(host).env_clear().status().unwrap(); v.push(t.elapsed().as_secs_f64() * 1e6); }
            rep("std::process (posix_spawn)", v);
        }
    });
}
