/** What a benchmark is to do, from what was typed; whatever makes no sense is refused before anything is started. */
import { accessSync, constants, type StatsFs, statfsSync } from 'node:fs'
import { dirname } from 'node:path'
import { XferdError } from '../../src/index.js'
import { formatBytes, parseBytes } from '../text.js'
import type { Load } from './contender.js'

/** As many copies as one push may make, and as many workers as a server may have. */
export const CLIENTS_MAX = 1000
export const WORKERS_MAX = 256
/** Entries of one list. */
export const LIST_MAX = 16
export const ROUNDS_MAX = 1000
export const SOURCE_BYTES_MAX = 1e12

export const TREE = { folders: 100, filesPerFolder: 100, fileBytes: 4096 }

/** Nobody likes a full disk. */
const SPARE_BYTES = 1e9
/** For the programs themselves, beside a source that should stay in the page cache. */
const SPARE_MEMORY_BYTES = 256e6

/** A list of whole numbers, as in `1,10,50`. */
export function numbers(flag: string, list: string, min: number, max: number): number[] {
  const texts = list.split(',')
  const values = texts.map((text) => (/^\d{1,9}$/.test(text) ? Number(text) : Number.NaN))
  const isRight = values.every((value) => value >= min && value <= max)
  if (isRight && values.length <= LIST_MAX && new Set(values).size === values.length) return values
  throw wrong(`${flag} ${list}: give 1 to ${LIST_MAX} different numbers from ${min} to ${max}, as in 1,8`)
}

/** Names of a list, of those there are. */
export function names<Name extends string>(flag: string, list: string, known: readonly Name[]): Name[] {
  const unknown = list.split(',').find((name) => !known.includes(name as Name))
  if (unknown === undefined) return [...new Set(list.split(',') as Name[])]
  throw wrong(`${flag} ${unknown}: there are ${known.join(', ')}`)
}

export function sourceBytes(flag: string, text: string): number {
  const bytes = parseBytes(text)
  if (bytes !== undefined && bytes >= 1 && bytes <= SOURCE_BYTES_MAX) return bytes
  throw wrong(`${flag} ${text}: give 1 B to ${formatBytes(SOURCE_BYTES_MAX)}, as in 469.2MB`)
}

/** One file of so many bytes, with each number of clients. */
export function fileLoads(direction: Load['direction'], bytes: number, clients: number[]): Load[] {
  return clients.map((clients) => ({
    title: `${direction}, ${clients} ${clients === 1 ? 'client' : 'clients'} of ${formatBytes(bytes)}`,
    direction,
    clients,
    isTree: false,
    sourceBytes: bytes,
    files: 1,
  }))
}

export function treeLoads(): Load[] {
  const files = TREE.folders * TREE.filesPerFolder
  return (['push', 'pull'] as const).map((direction) => ({
    title: `${direction}, a tree of ${files.toLocaleString('en')} files of ${TREE.fileBytes / 1024} KiB`,
    direction,
    clients: 1,
    isTree: true,
    sourceBytes: files * TREE.fileBytes,
    files,
  }))
}

/**
 * Throws unless `folder` has room for what will be in it at a time, and the memory for a source that is read again and again.
 * Trees stay until the end (`race.ts`), one for each of all `moves`.
 */
export function proveRoom(folder: string, loads: Load[], moves: number): void {
  const { bavail, bsize, files, ffree } = statistics(folder)
  const bytesOf = (load: Load): number => load.sourceBytes * (1 + (load.isTree ? moves : load.clients))
  const neededBytes = Math.max(...loads.map(bytesOf)) + SPARE_BYTES
  if (bavail * bsize < neededBytes) {
    throw new XferdError(
      'DISK_FULL',
      `${folder} has ${formatBytes(bavail * bsize)} left, and this needs ${formatBytes(neededBytes)}: ` +
        'make room, name another folder with --dir, or give smaller --clients or --size',
    )
  }
  const neededFiles = Math.max(
    ...loads.map((load) => load.files * (1 + (load.isTree ? moves : load.clients))),
  )
  // Some file systems make inodes as they go, and count none.
  if (files > 0 && ffree < neededFiles) {
    throw new XferdError(
      'DISK_FULL',
      `${folder} takes ${ffree} more files, and this needs ${neededFiles}: name another folder with --dir`,
    )
  }
  const neededMemory = Math.max(...loads.map((load) => load.sourceBytes)) + SPARE_MEMORY_BYTES
  const available = process.availableMemory?.() ?? Number.POSITIVE_INFINITY
  if (available < neededMemory) {
    throw new XferdError(
      'LIMIT',
      `${formatBytes(available)} of memory are available, and a source that stays in memory needs ${formatBytes(neededMemory)}: ` +
        'give a smaller --size, or end other programs',
    )
  }
}

/** Throws unless a report can be written there: better before an hour of measuring than after. */
export function proveWritable(file: string): void {
  try {
    accessSync(dirname(file), constants.W_OK)
  } catch (cause) {
    throw new XferdError('INVALID_ARGUMENT', `${file} can't be written: ${(cause as Error).message}`, {
      cause,
    })
  }
}

function statistics(folder: string): StatsFs {
  try {
    return statfsSync(folder)
  } catch (cause) {
    throw new XferdError('NOT_FOUND', `--dir ${folder}: ${(cause as Error).message}`, { cause })
  }
}

function wrong(message: string): XferdError {
  return new XferdError('INVALID_ARGUMENT', message)
}
