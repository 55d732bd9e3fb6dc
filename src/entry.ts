import type { RawEntry } from './native.js'

/** A file, a folder or a link on the server. */
export interface Entry {
  /** Relative to what was listed; for `stat`, to the server's root. */
  path: string
  kind: 'file' | 'directory' | 'symlink' | 'other'
  /** Bytes. */
  size: number
  /** Permission bits, as in `0o644`. */
  mode: number
  mtime: Date
  /** Where a link points, as it was stored. */
  linkTarget?: string
}

export function entryFrom({ mtimeMs, ...entry }: RawEntry): Entry {
  return { ...entry, mtime: new Date(mtimeMs) }
}
