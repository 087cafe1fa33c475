// A worker in Node: answers each call with its payload in capitals.
const HEADER = 12, CALL = 1, PING = 2, RESET = 4, READY = 16, REPLY = 17, FAILURE = 19, PONG = 20;
const handle = (payload) => Buffer.from(payload.toString().toUpperCase());

function send(kind, id = 0, payload = Buffer.alloc(0)) {
  const header = Buffer.alloc(HEADER);
  header.writeUInt32LE(payload.length, 0);
  header.writeUInt32LE(id, 4);
  header[8] = kind;
  process.stdout.write(Buffer.concat([header, payload]));
}

console.log = console.error; // what is printed must not get into the frames
let chunks = [], size = 0, wanted = HEADER;
process.stdin.on('data', (chunk) => {
  chunks.push(chunk);
  size += chunk.length;
  while (size >= wanted) {
    let buffer = Buffer.concat(chunks);
    wanted = HEADER + (buffer.length < HEADER ? 0 : buffer.readUInt32LE(0));
    if (buffer.length < wanted) { chunks = [buffer]; break; }
    const id = buffer.readUInt32LE(4), kind = buffer[8], payload = buffer.subarray(HEADER, wanted);
    chunks = [buffer.subarray(wanted)];
    size -= wanted;
    wanted = HEADER;
    if (kind === PING || kind === RESET) send(PONG, id);
    if (kind !== CALL) continue;
    try { send(REPLY, id, handle(payload)); } catch (error) { send(FAILURE, id, Buffer.from(String(error))); }
  }
});
send(READY);
