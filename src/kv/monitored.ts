/** A command that some client gave, as MONITOR tells it. */
export interface KvMonitored<B extends string | Buffer = string> {
  /** When, in seconds since 1970. */
  at: number
  database: number
  /** Who. */
  peer: string
  /** What. */
  args: B[]
}

/** Reads `1339518083.107412 [0 127.0.0.1:60866] "get" "key"`; `undefined` if it is not such a line. */
export function monitoredFrom(line: string): KvMonitored<Buffer> | undefined {
  const [, at, database, peer = '', said = ''] =
    /^(\d+\.\d+) \[(\d+) (.*?)\]((?: "(?:[^"\\]|\\.)*")*)$/s.exec(line) ?? []
  if (at === undefined) return undefined
  const args = [...said.matchAll(/"((?:[^"\\]|\\.)*)"/gs)].map(([, text = '']) => unescaped(text))
  return { at: Number(at), database: Number(database), peer, args }
}

/** The bytes that `"a\x00\n"` stands for, without its quotes: as Redis escapes them, and Rust. */
export function unescaped(text: string): Buffer {
  const parts = text.split(/(\\x[\da-f]{2}|\\.)/is).map((part, index) => {
    // Every second one is an escape.
    if (index % 2 === 0) return Buffer.from(part)
    if (part.length === 4) return Buffer.from(part.slice(2), 'hex')
    return Buffer.from(ESCAPES[part[1] ?? ''] ?? part.slice(1))
  })
  return Buffer.concat(parts)
}

const ESCAPES: Record<string, string> = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b' }
