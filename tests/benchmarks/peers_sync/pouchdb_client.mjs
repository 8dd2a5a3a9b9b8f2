// Pushes documents from one PouchDB to a server and pulls them into another; prints one line of JSON per phase.
//
//   node pouchdb_client.mjs URL SERVER_PID DOCUMENTS FOLDER WARM_UP BATCH
//
// DOCUMENTS is a file with a JSON array; its first WARM_UP ones go over before the clock starts.

import { readFileSync } from "node:fs";
import PouchDB from "pouchdb";

const [url, server, path, folder, warmUp, batch] = process.argv.slice(2);
const TICKS_PER_SECOND = 100; // of /proc, on every Linux (man 5 proc_pid_stat, sysconf(_SC_CLK_TCK))
const WRITTEN_TOGETHER = 1_000;

const documents = JSON.parse(readFileSync(path)).map(({ id, ...rest }) => ({ _id: id, ...rest }));
const Local = PouchDB.defaults({ prefix: `${folder}/` });
const one = new Local("one");
const other = new Local("other");
const cloud = new PouchDB(`${url}/walks`);
const options = { batch_size: Number(batch) };

async function write(some) {
  for (let at = 0; at < some.length; at += WRITTEN_TOGETHER) {
    for (const done of await one.bulkDocs(some.slice(at, at + WRITTEN_TOGETHER))) {
      if (!done.ok) throw new Error(JSON.stringify(done));
    }
  }
}

function now() {
  const fields = readFileSync(`/proc/${server}/stat`, "utf8").split(")").at(-1).trim().split(" ");
  const { user, system } = process.cpuUsage();
  const ticks = Number(fields[11]) + Number(fields[12]);
  return { seconds: performance.now() / 1e3, cpu: (user + system) / 1e6, server_cpu: ticks / TICKS_PER_SECOND };
}

async function phase(name, expected, replicate) {
  const begun = now();
  const done = await replicate();
  const ended = now();
  if (!done.ok || done.docs_written !== expected) throw new Error(`${name} of ${expected}: ${JSON.stringify(done)}`);
  const taken = Object.fromEntries(Object.entries(ended).map(([what, value]) => [what, value - begun[what]]));
  console.log(JSON.stringify({ phase: name, ...taken }));
}

const push = () => one.replicate.to(cloud, options);
const pull = () => other.replicate.from(cloud, options);
const few = documents.slice(0, Number(warmUp));
const many = documents.slice(Number(warmUp));

await write(few);
await phase("first push", few.length, push);
await phase("first pull", few.length, pull);
await write(many);
await phase("push", many.length, push);
await phase("pull", many.length, pull);

const last = documents.at(-1);
const arrived = await other.get(last._id);
const { doc_count } = await other.info();
if (doc_count !== documents.length || arrived.name !== last.name) throw new Error(`${doc_count} have arrived`);
await Promise.all([one.close(), other.close()]);
