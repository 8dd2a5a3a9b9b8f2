// A PouchDB server on LevelDB in the folder argv[2], on a free port of loopback; says on stdout where.
//
// The least that replication needs, and without gzip, which costs more than it saves on loopback.

import { createRequire } from "node:module";
import expressPouchDB from "express-pouchdb";
import PouchDB from "pouchdb";

// Its own Express: with another version, pulls are answered with status 500.
const express = createRequire(createRequire(import.meta.url).resolve("express-pouchdb"))("express");

const app = express();
app.use(
  expressPouchDB(PouchDB.defaults({ prefix: `${process.argv[2]}/` }), {
    mode: "minimumForPouchDB",
    overrideMode: { exclude: ["compression"] },
    inMemoryConfig: true,
  }),
);
const server = app.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
