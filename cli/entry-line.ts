import type { Entry } from '../src/index.js'
import { formatBytes } from './text.js'

/** An entry as `ls -l` shows it: `-rw-r--r--   469.2 MB  2026-01-31 12:00  movie.mkv`. */
export function formatEntry({ kind, mode, size, mtime, path, linkTarget }: Entry): string {
  const target = linkTarget === undefined ? '' : ` -> ${linkTarget}`
  return `${TYPES[kind]}${permissions(mode)}  ${formatBytes(size).padStart(9)}  ${minute(mtime)}  ${path}${target}`
}

function permissions(mode: number): string {
  return [...'rwxrwxrwx'].map((letter, index) => (mode & (0o400 >> index) ? letter : '-')).join('')
}

/** Local time. */
function minute(time: Date): string {
  const local = new Date(time.getTime() - time.getTimezoneOffset() * 60_000)
  return local.toISOString().slice(0, 16).replace('T', ' ')
}

const TYPES = { file: '-', directory: 'd', symlink: 'l', other: '?' }
