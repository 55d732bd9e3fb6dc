import { unescaped } from '../../src/kv/monitored.js'

/** Why a line cannot be taken apart. */
export type Problem = 'a quote is not closed' | 'a quote ends within a word'

/**
 * Takes a line apart as redis-cli does: words with blanks between them; within double quotes, `\n`, `\r`, `\t`, `\b`, `\a`, `\xff` and any
 * other character behind a backslash; within single quotes, only `\'`.
 */
export function splitWords(line: string): Buffer[] | Problem {
  const words: Buffer[] = []
  for (let rest = line.trimStart(); rest !== ''; rest = rest.trimStart()) {
    const [plain = ''] = /^[^\s"']*/.exec(rest) ?? []
    rest = rest.slice(plain.length)
    const quote = rest[0] === '"' || rest[0] === "'" ? rest[0] : undefined
    if (quote === undefined) {
      words.push(Buffer.from(plain))
      continue
    }
    const end = endOfQuote(rest, quote)
    if (end === undefined) return 'a quote is not closed'
    const quoted = rest.slice(1, end)
    rest = rest.slice(end + 1)
    if (/^\S/.test(rest)) return 'a quote ends within a word'
    const bytes = quote === '"' ? unescaped(quoted) : Buffer.from(quoted.replaceAll("\\'", "'"))
    words.push(Buffer.concat([Buffer.from(plain), bytes]))
  }
  return words
}

function endOfQuote(text: string, quote: string): number | undefined {
  for (let at = 1; at < text.length; at++) {
    if (text[at] === quote) return at
    if (text[at] === '\\' && (quote === '"' || text[at + 1] === quote)) at++
  }
  return undefined
}
