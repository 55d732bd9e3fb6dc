// `npm run bench`: what the SDK costs over a kept connection, client and server in this process.
//
// A bare round trip over TCP is what Node needs for a byte there and back, so it is the floor for every call; the same bytes
// through a bare socket are the ceiling of the streams. Pushes are made with and without somebody who follows their progress.
import { once } from 'node:events'
import { mkdirSync, writeFileSync } from 'node:fs'
import { createConnection, createServer } from 'node:net'
import { join } from 'node:path'
import { finished } from 'node:stream/promises'
import { parseArgs } from 'node:util'
import benny from 'benny'
import { connect, serve } from 'xferd'
import { writeRandomFile } from '../cli/bench/disk.mjs'
import { temporaryFolder } from './temporary-folder.mjs'

const HELP = `Measures the SDK: calls, small files, streams, and what following the progress of a push costs.

  npm run bench [-- --json]

  --json   one JSON object instead of the table
  --help   this text

It takes less than a minute.`

const SMALL_BYTES = 4096
/** What is there already would be left out. */
const AGAIN = { ignoreTimes: true }
const STREAM_BYTES = 64_000_000
const CHUNK_BYTES = 256 << 10
const WATCHED_BYTES = 256_000_000
const ENTRIES = 1000
/** Seconds for each case. */
const CALLS = { minSamples: 30, maxTime: 1.5, initCount: 1 }
const BULK = { minSamples: 5, maxTime: 3, initCount: 1 }
/** Before it measures anything benny runs each case twice, all cases at once, to see what they return. */
const TRIED_RUNS = 2

const options = readOptions()
if (options.help) {
  console.log(HELP)
  process.exit()
}
const folder = temporaryFolder('bench')

// benny tells on stdout which suite it runs.
const print = console.log
if (options.json) console.log = console.error

const root = join(folder, 'root')
mkdirSync(join(root, 'many'), { recursive: true })
for (let entry = 0; entry < ENTRIES; entry++) writeFileSync(join(root, 'many', `file-${entry}`), '')
const small = join(folder, 'small')
const watched = join(folder, 'watched')
await writeRandomFile(small, SMALL_BYTES)
await writeRandomFile(watched, WATCHED_BYTES)
await writeRandomFile(join(root, 'stream'), STREAM_BYTES)
const chunk = Buffer.alloc(CHUNK_BYTES, 1)

const server = await serve({ root, listen: ['xfer://127.0.0.1:0'] })
const client = await connect(server.addresses[0])
const echo = createServer((socket) => socket.setNoDelay().pipe(socket)).listen(0, '127.0.0.1')
const sink = createServer((socket) => socket.resume().on('end', () => socket.end())).listen(0, '127.0.0.1')
await Promise.all([once(echo, 'listening'), once(sink, 'listening')])
const bare = createConnection({ port: echo.address().port, host: '127.0.0.1', noDelay: true })
await client.push(small, 'small')

const suites = [
  await suite('calls', CALLS, {
    'a bare round trip over TCP': async () => {
      bare.write('x')
      await once(bare, 'data')
    },
    'stat a file': () => client.stat('small'),
    [`list ${ENTRIES.toLocaleString('en')} entries`]: () => client.list('many'),
    'connect, which asks for a sign of life, and close': async () => {
      const another = await connect(server.addresses[0])
      await another.close()
    },
  }),
  await suite('small files', CALLS, {
    [`push a file of ${SMALL_BYTES / 1024} KiB`]: () => client.push(small, 'small', AGAIN),
  }),
  await suite(
    'streams',
    BULK,
    {
      'a bare socket': () => fill(createConnection({ port: sink.address().port, host: '127.0.0.1' })),
      'client.writeStream': () => fill(client.writeStream('written')),
      'client.readStream': async () => {
        for await (const _ of client.readStream('stream'));
      },
    },
    STREAM_BYTES,
  ),
  await suite(
    'progress',
    BULK,
    {
      'push, looking away': () => client.push(watched, 'watched', AGAIN),
      'push, following its progress': async () => {
        for await (const _ of client.push(watched, 'watched', AGAIN));
      },
    },
    WATCHED_BYTES,
  ),
]

bare.destroy()
echo.close()
sink.close()
await client.close()
await server.close()
print(options.json ? JSON.stringify({ suites }) : `\n${suites.map(table).join('\n\n')}`)

/** Sends as many bytes as a stream is measured with, no faster than they are taken. */
async function fill(stream) {
  // What a socket sends back has to be read for its end to be seen.
  if (stream.readable) stream.resume()
  for (let left = STREAM_BYTES; left > 0; left -= CHUNK_BYTES) {
    if (!stream.write(left < CHUNK_BYTES ? chunk.subarray(0, left) : chunk)) await once(stream, 'drain')
  }
  stream.end()
  await finished(stream)
}

/** Runs cases that move `bytes` each, if that is said, and returns what they took. */
async function suite(name, limits, cases, bytes) {
  const times = new Map()
  await benny.suite(
    name,
    ...Object.entries(cases).map(([title, run]) => {
      const took_ms = []
      times.set(title, took_ms)
      const timed = async () => {
        const startMs = performance.now()
        await run()
        took_ms.push(performance.now() - startMs)
      }
      return benny.add(title, timed, limits)
    }),
  )
  return { name, results: [...times].map(([title, took_ms]) => figures(title, took_ms, bytes)) }
}

/** benny's own samples are means of many runs, which hide the slow ones; so each run is timed by itself. */
function figures(name, took_ms, bytes) {
  const sorted = took_ms.slice(TRIED_RUNS).sort((left, right) => left - right)
  const quantile = (share) => sorted[Math.floor((sorted.length - 1) * share)]
  const p50_us = quantile(0.5) * 1000
  return {
    name,
    runs: sorted.length,
    p50_us,
    p99_us: quantile(0.99) * 1000,
    ...(bytes && { mb_per_s: bytes / p50_us }),
  }
}

function table({ name, results }) {
  const rows = results.map(({ name, runs, p50_us, p99_us, mb_per_s }) => [
    name,
    `${runs}`,
    `${p50_us.toFixed(0)} µs`,
    `${p99_us.toFixed(0)} µs`,
    mb_per_s ? `${mb_per_s.toFixed(0)} MB/s` : '',
  ])
  const lines = [[name, 'runs', 'p50', 'p99', ''], ...rows].map(([title, ...cells]) =>
    [title.padEnd(52), ...cells.map((cell) => cell.padStart(12))].join('').trimEnd(),
  )
  return lines.join('\n')
}

function readOptions() {
  try {
    return parseArgs({
      options: { json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
    }).values
  } catch (error) {
    console.error(`${error.message}\nnpm run bench -- --help tells the options.`)
    process.exit(2)
  }
}
