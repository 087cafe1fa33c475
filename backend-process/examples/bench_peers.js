// The process pools of Node, measured as the benchmark measures ours: two workers, one call at a time.
// NODE_PATH says where jest-worker and workerpool are installed.
const N = process.env.BENCH_QUICK ? 200 : 2000;

function row(bench, subject, unit, samples) {
  samples.sort((a, b) => a - b);
  const at = (part) => Number(samples[Math.floor((samples.length - 1) * part)].toFixed(1));
  const text = JSON.stringify({ bench, subject, unit, p50: at(0.5), p99: at(0.99), n: samples.length, note: '' });
  console.log(text.replaceAll('":', '": ').replaceAll(',"', ', "'));
}

async function latency(bench, subject, call, n = N) {
  for (let i = 0; i < n / 10; i++) await call();
  const samples = [];
  for (let i = 0; i < n; i++) {
    const begun = process.hrtime.bigint();
    await call();
    samples.push(Number(process.hrtime.bigint() - begun) / 1000);
  }
  row(bench, subject, 'us', samples);
}

async function measure(subject, call) {
  await latency('call/noop', subject, () => call('x'));
  const four = 'x'.repeat(4096), mega = 'x'.repeat(1 << 20);
  await latency('call/4k', subject, () => call(four));
  await latency('call/1m', subject, () => call(mega), N / 20);
  const count = N * 4, begun = process.hrtime.bigint();
  const one = async () => { for (let i = 0; i < count / 64; i++) await call('x'); };
  await Promise.all(Array.from({ length: 64 }, one));
  row('inflight_64', subject, 'calls/s', [count / (Number(process.hrtime.bigint() - begun) / 1e9)]);
}

async function attempt(name, run) {
  try { require.resolve(name); } catch { console.error(`missing: ${name} (npm install ${name})`); return; }
  await run(require(name));
}

async function main() {
  await attempt('jest-worker', async ({ Worker }) => {
    const pool = new Worker(__filename, { numWorkers: 2, enableWorkerThreads: false, exposedMethods: ['echo'] });
    await measure('jest-worker', (payload) => pool.echo(payload));
    await pool.end();
  });
  await attempt('workerpool', async (workerpool) => {
    const pool = workerpool.pool({ maxWorkers: 2, minWorkers: 2, workerType: 'process' });
    await measure('workerpool', (payload) => pool.exec((p) => p, [payload]));
    await pool.terminate();
  });
}

exports.echo = (payload) => payload;
if (require.main === module) main();
