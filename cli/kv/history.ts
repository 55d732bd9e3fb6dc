import { appendFile, chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'

/** Lines that are remembered. */
export const HISTORY_LINES_MAX = 1000

/** What was typed, in a file that only its owner can read. Passwords are not kept. */
export class History {
  /** The newest first, as `node:readline` has them. */
  readonly lines: string[]
  readonly #file: string

  private constructor(file: string, lines: string[]) {
    this.#file = file
    this.lines = lines
  }

  /** What the file has; without it, or if it cannot be read, nothing. */
  static async open(file = fileOfUser()): Promise<History> {
    try {
      const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '')
      const kept = lines.slice(-HISTORY_LINES_MAX)
      await chmod(file, MODE)
      if (kept.length < lines.length) await writeFile(file, kept.map((line) => `${line}\n`).join(''))
      return new History(file, kept.reverse())
    } catch {
      return new History(file, [])
    }
  }

  /** Remembers a line. A prompt goes on if that cannot be done. */
  async add(line: string): Promise<void> {
    if (line.trim() === '' || hasPassword(line)) return
    try {
      await mkdir(dirname(this.#file), { recursive: true, mode: 0o700 })
      await appendFile(this.#file, `${line.replaceAll('\n', ' ')}\n`, { mode: MODE })
    } catch {
      // A home that cannot be written to.
    }
  }
}

function hasPassword(line: string): boolean {
  return /^\s*auth\b|^\s*hello\b.*\bauth\b|^\s*config\s+set\b.*\b(requirepass|masterauth)\b/is.test(line)
}

function fileOfUser(): string {
  const { XFERD_KV_HISTORY, XDG_STATE_HOME } = process.env
  return XFERD_KV_HISTORY || join(XDG_STATE_HOME || join(homedir(), '.local', 'state'), 'xferd', 'kv-history')
}

const MODE = 0o600
