// @ts-check
/**
 * Files to send, what became of them, and a disk that is at rest. In JavaScript, as the scripts in bench/ use it without a
 * build.
 */
import { randomBytes, randomFillSync } from 'node:crypto'
import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
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

/**
 * Creates a file of random bytes.
 *
 * @param {string} path
 * @param {number} bytes
 */
export async function writeRandomFile(path, bytes) {
  const file = openSync(path, 'wx')
  const chunk = Buffer.alloc(CHUNK_BYTES)
  for (let left = bytes; left > 0; left -= CHUNK_BYTES) {
    writeSync(file, randomFillSync(chunk), 0, Math.min(left, CHUNK_BYTES))
    await letSignalsIn()
  }
  closeSync(file)
}

/**
 * Creates a folder of folders of small random files.
 *
 * @param {string} path
 * @param {{ folders: number, filesPerFolder: number, fileBytes: number }} tree
 */
export async function writeRandomTree(path, tree) {
  for (let folder = 0; folder < tree.folders; folder++) {
    const parent = join(path, `folder-${folder}`)
    mkdirSync(parent, { recursive: true })
    for (let file = 0; file < tree.filesPerFolder; file++) {
      writeFileSync(join(parent, `file-${file}`), randomBytes(tree.fileBytes))
    }
    await letSignalsIn()
  }
}

/**
 * Reads a file or a tree, so that it is in the page cache.
 *
 * @param {string} path
 */
export async function warm(path) {
  for (const name of filesBelow(path)) {
    const file = openSync(join(path, name), 'r')
    while (readSync(file, CHUNKS[0]) > 0);
    closeSync(file)
  }
  await letSignalsIn()
}

/** Waits until writes of the past no longer disturb; not for ever, as other programs may go on writing. */
export async function settle() {
  if (unwrittenBytes() <= UNWRITTEN_BYTES_MAX) return
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

/**
 * Throws unless `folder` holds exactly `count` equal copies of `source`, which is a file or a tree. Without `everyByte` only
 * their names and sizes are compared.
 *
 * @param {string} source
 * @param {string} folder
 * @param {number} count
 * @param {boolean} everyByte
 */
export async function proveCopies(source, folder, count, everyByte) {
  const copies = readdirSync(folder)
  if (copies.length !== count) throw new Error(`${count} copies were sent, and ${copies.length} are stored`)
  const names = filesBelow(source)
  for (const copy of copies) {
    const stored = filesBelow(join(folder, copy))
    if (stored.join('\n') !== names.join('\n')) throw new Error(`${copy} has not the files of its source`)
    for (const name of names) {
      const [from, to] = [join(source, name), join(folder, copy, name)]
      if (statSync(from).size !== statSync(to).size) throw new Error(`${to} is not of its source's size`)
      if (everyByte) await proveEqual(from, to)
    }
  }
}

/**
 * The files of a tree, as sorted names below it; of a file, one empty name.
 *
 * @param {string} path
 */
function filesBelow(path) {
  if (statSync(path).isFile()) return ['']
  const entries = readdirSync(path, { recursive: true, withFileTypes: true })
  const files = entries.filter((entry) => !entry.isDirectory())
  return files.map((entry) => join(entry.parentPath, entry.name).slice(path.length + 1)).sort()
}

/**
 * @param {string} source
 * @param {string} copy
 */
async function proveEqual(source, copy) {
  const files = /** @type {const} */ ([openSync(source, 'r'), openSync(copy, 'r')])
  for (let offset = 0; ; offset += CHUNK_BYTES) {
    const expected = CHUNKS[0].subarray(0, readSync(files[0], CHUNKS[0]))
    const stored = CHUNKS[1].subarray(0, readSync(files[1], CHUNKS[1]))
    if (!expected.equals(stored)) throw new Error(`${copy} differs from its source after byte ${offset}`)
    if (expected.length === 0) break
    if (expected.length === CHUNK_BYTES) await letSignalsIn()
  }
  for (const file of files) closeSync(file)
}

/** @returns {Promise<void>} */
function letSignalsIn() {
  return setImmediate()
}

const CHUNKS = /** @type {const} */ ([Buffer.alloc(CHUNK_BYTES), Buffer.alloc(CHUNK_BYTES)])
