// `npm start`: serves a temporary folder, sends a generated file with 1 and then 10 clients, fetches it back, proves all copies
// equal, prints what it took, and leaves nothing behind.
import { execFile, execFileSync, spawn } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { once } from 'node:events'
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'
import { build, install } from './setup.mjs'

const FILE_BYTES = 469_200_000
const CHUNK_BYTES = 4 << 20
const xferd = join(import.meta.dirname, '../bin/xferd.js')

install()
build()
const folder = await mkdtemp(join(tmpdir(), 'xferd-'))
let server
process.on('exit', () => {
  server?.kill('SIGKILL')
  rmSync(folder, { recursive: true, force: true })
})
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
])
  process.on(signal, () => process.exit(code))

const source = join(folder, 'random.bin')
const root = join(folder, 'root')
const copy = join(folder, 'copy.bin')
await mkdir(root)
console.log(`generating ${FILE_BYTES.toLocaleString('en')} random bytes`)
generate(source)
const address = await startServer()
console.log(`serving on ${address}\n`)

const rows = [['', 'clients', 'total MB', 'seconds', 'MB/s', 'server RSS MiB']]
await measure('push', source, `${address}/one.bin`)
await measure('push', source, `${address}/ten/{n}.bin`, '--clients', '10')
await measure('pull', `${address}/one.bin`, copy)
const copies = [
  copy,
  join(root, 'one.bin'),
  ...readdirSync(join(root, 'ten')).map((name) => join(root, 'ten', name)),
]
for (const file of copies) prove(file)
printTable()
console.log(`\nall ${copies.length} copies are equal to the original`)
server.kill('SIGTERM')
await once(server, 'exit')

async function startServer() {
  server = spawn(process.execPath, [xferd, 'serve', root, '--port', '0', '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  server.once('exit', (code) => {
    if (code !== 0) throw new Error(`the server ended with code ${code}`)
  })
  const lines = createInterface({ input: server.stdout })
  const [line] = await once(lines, 'line')
  lines.on('line', () => {})
  return JSON.parse(line).addresses[0]
}

async function measure(verb, ...args) {
  const { stdout } = await promisify(execFile)(process.execPath, [xferd, verb, ...args, '--json'])
  const { clients, bytes, seconds, mb_per_s } = JSON.parse(stdout)
  rows.push([
    verb,
    clients,
    (bytes / 1e6).toFixed(1),
    seconds.toFixed(3),
    mb_per_s.toFixed(0),
    residentMiB(server.pid),
  ])
}

function residentMiB(pid) {
  const kib = existsSync('/proc/self/status')
    ? /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))[1]
    : execFileSync('ps', ['-o', 'rss=', '-p', `${pid}`], { encoding: 'utf8' })
  return (Number(kib) / 1024).toFixed(0)
}

function generate(path) {
  const file = openSync(path, 'w')
  const chunk = Buffer.alloc(CHUNK_BYTES)
  for (let left = FILE_BYTES; left > 0; left -= CHUNK_BYTES) {
    writeSync(file, randomFillSync(chunk), 0, Math.min(left, CHUNK_BYTES))
  }
  closeSync(file)
}

/** Throws unless the file equals the source byte for byte. */
function prove(path) {
  if (statSync(path).size !== FILE_BYTES) throw new Error(`${path} is not of the source's size`)
  const files = [openSync(source), openSync(path)]
  const chunks = files.map(() => Buffer.alloc(CHUNK_BYTES))
  for (let offset = 0; offset < FILE_BYTES; offset += CHUNK_BYTES) {
    const parts = files.map((file, index) =>
      chunks[index].subarray(0, readSync(file, chunks[index], 0, CHUNK_BYTES, offset)),
    )
    if (!parts[0].equals(parts[1])) throw new Error(`${path} differs from the source after byte ${offset}`)
  }
  for (const file of files) closeSync(file)
}

function printTable() {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => `${row[column]}`.length)))
  for (const row of rows)
    console.log(row.map((cell, column) => `${cell}`.padStart(widths[column])).join('   '))
}
