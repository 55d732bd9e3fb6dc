// Files to send, what became of them, and a disk that is at rest.
import { randomBytes, randomFillSync } from 'node:crypto'
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statfsSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { setImmediate, setTimeout as sleep } from 'node:timers/promises'
import { run } from './processes.mjs'

const CHUNK_BYTES = 4 << 20
/** What may wait to be written back while something is measured, and how long to wait for it to become so little. */
const UNWRITTEN_BYTES_MAX = 64 << 20
const SETTLE_MS_MAX = 60_000

/** Creates a file of random bytes. */
export function writeRandomFile(path, bytes) {
  const file = openSync(path, 'wx')
  const chunk = Buffer.alloc(CHUNK_BYTES)
  for (let left = bytes; left > 0; left -= CHUNK_BYTES) {
    writeSync(file, randomFillSync(chunk), 0, Math.min(left, CHUNK_BYTES))
  }
  closeSync(file)
}

/** Creates a folder of folders of small random files. */
export function writeRandomTree(path, { folders, filesPerFolder, fileBytes }) {
  for (let folder = 0; folder < folders; folder++) {
    const parent = join(path, `folder-${folder}`)
    mkdirSync(parent, { recursive: true })
    for (let file = 0; file < filesPerFolder; file++) {
      writeFileSync(join(parent, `file-${file}`), randomBytes(fileBytes))
    }
  }
}

/** Reads a file or a tree, so that it is in the page cache. */
export function warm(path) {
  const chunk = Buffer.alloc(CHUNK_BYTES)
  for (const name of filesBelow(path)) {
    const file = openSync(join(path, name))
    while (readSync(file, chunk) > 0);
    closeSync(file)
  }
}

/** Waits until writes of the past no longer disturb; not for ever, as other programs may go on writing. */
export async function settle() {
  await run('sync')
  const deadlineMs = performance.now() + SETTLE_MS_MAX
  while (unwrittenBytes() > UNWRITTEN_BYTES_MAX && performance.now() < deadlineMs) await sleep(100)
}

/** Dirty pages and those on their way to the disk; none where the kernel does not say. */
function unwrittenBytes() {
  if (process.platform !== 'linux') return 0
  const lines = readFileSync('/proc/meminfo', 'utf8').matchAll(/^(?:Dirty|Writeback): +(\d+)/gm)
  return [...lines].reduce((sum, [, kib]) => sum + Number(kib) * 1024, 0)
}

/** What may still be stored in the file system of `path`. */
export function availableBytes(path) {
  const { bavail, bsize } = statfsSync(path)
  return bavail * bsize
}

/** Throws unless `root` holds exactly `count` equal copies of `source`, which is a file or a tree. */
export async function proveCopies(source, root, count) {
  const copies = readdirSync(root)
  if (copies.length !== count) throw new Error(`${count} copies were sent, and ${copies.length} are stored`)
  const names = filesBelow(source)
  for (const copy of copies) {
    const stored = filesBelow(join(root, copy))
    if (stored.join('\n') !== names.join('\n')) throw new Error(`${copy} has not the files of its source`)
    for (const name of names) proveEqual(join(source, name), join(root, copy, name))
    // So that a signal is heard between two large files.
    await setImmediate()
  }
}

/** The files of a tree, as sorted names below it; of a file, one empty name. */
function filesBelow(path) {
  if (statSync(path).isFile()) return ['']
  const entries = readdirSync(path, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => !entry.isDirectory())
  return files.map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1)).sort()
}

function proveEqual(source, copy) {
  const files = [openSync(source), openSync(copy)]
  for (let offset = 0; ; offset += CHUNK_BYTES) {
    const [expected, stored] = files.map((file, index) =>
      CHUNKS[index].subarray(0, readSync(file, CHUNKS[index])),
    )
    if (!expected.equals(stored)) throw new Error(`${copy} differs from its source after byte ${offset}`)
    if (expected.length === 0) break
  }
  for (const file of files) closeSync(file)
}

const CHUNKS = [Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)]
