// The process pools of Node, two workers each. Reads `subject what size n`, answers with numbers.
// NODE_PATH says where jest-worker and workerpool are installed.
const makers = {
  'jest-worker': () => {
    const { Worker } = require('jest-worker');
    const pool = new Worker(__filename, { numWorkers: 2, enableWorkerThreads: false, exposedMethods: ['echo'] });
    return [(payload) => pool.echo(payload), () => pool.end()];
  },
  workerpool: () => {
    const pool = require('workerpool').pool({ maxWorkers: 2, minWorkers: 2, workerType: 'process' });
    return [(payload) => pool.exec((p) => p, [payload]), () => pool.terminate()];
  },
};

async function latency(call, payload, n) {
  const samples = [];
  for (let i = 0; i < n; i++) {
    const begun = process.hrtime.bigint();
    await call(payload);
    samples.push(Number(process.hrtime.bigint() - begun) / 1000);
  }
  return samples;
}

async function inFlight(call, payload, n) {
  const begun = process.hrtime.bigint();
  const one = async () => { for (let i = 0; i < n / 64; i++) await call(payload); };
  await Promise.all(Array.from({ length: 64 }, one));
  return [Math.ceil(n / 64) * 64 / (Number(process.hrtime.bigint() - begun) / 1e9)];
}

async function main() {
  const pools = {};
  for await (const line of require('readline').createInterface({ input: process.stdin })) {
    if (line === 'end') break;
    const [subject, what, size, n] = line.split(' ');
    try {
      pools[subject] ??= makers[subject]();
    } catch (error) {
      console.log(`missing: ${error.message.split('\n')[0]}`);
      continue;
    }
    const [call, payload] = [pools[subject][0], 'x'.repeat(Number(size))];
    const numbers = await (what === 'latency' ? latency : inFlight)(call, payload, Number(n));
    console.log(numbers.join(' '));
  }
  for (const [, end] of Object.values(pools)) await end();
  process.exit(0);
}

exports.echo = (payload) => payload;
if (require.main === module) main();
