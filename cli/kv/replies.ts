/** Replies as people read them, as programs do, and as JSON. */
import { isUtf8 } from 'node:buffer'
import { XferdError } from '../../src/index.js'
import { Push, type TextKind, type Texts } from '../../src/kv/codec.js'

/** Text of a reply, and what it came as. */
export class Text {
  readonly bytes: Buffer
  readonly kind: TextKind

  constructor(bytes: Buffer, kind: TextKind) {
    this.bytes = bytes
    this.kind = kind
  }
}

export const asTexts: Texts = (replies, begin, end, kind) => new Text(replies.subarray(begin, end), kind)

/** As redis-cli shows a reply on a terminal. Ends with the end of a line. */
export function shown(value: unknown, indent = ''): string {
  if (value instanceof Text) return shownText(value)
  if (value instanceof XferdError) return `(error) ${printable(value.message)}\n`
  if (value === null) return '(nil)\n'
  if (typeof value === 'boolean') return `(${value})\n`
  if (value instanceof Map) return shownItems([...value], 'hash', '#', indent)
  if (value instanceof Set) return shownItems([...value], 'set', '~', indent)
  if (value instanceof Push) return shownItems(value.values, 'push', ')', indent)
  if (Array.isArray(value)) return shownItems(value, 'array', ')', indent)
  return `(integer) ${value}\n`
}

function shownText({ bytes, kind }: Text): string {
  if (kind === 'bulk') return `${quoted(bytes)}\n`
  if (kind === 'double') return `(double) ${bytes}\n`
  const text = printable(bytes.toString())
  return text.endsWith('\n') ? text : `${text}\n`
}

/** One to a line, with its number; what has lines of its own is indented as far as the first of them. */
function shownItems(items: readonly unknown[], name: string, mark: string, indent: string): string {
  if (items.length === 0) return `(empty ${name})\n`
  const width = `${items.length}`.length
  const inner = indent + ' '.repeat(width + 2)
  const lines = items.map((item, index) => {
    const number = `${index === 0 ? '' : indent}${`${index + 1}`.padStart(width)}${mark} `
    if (name !== 'hash') return number + shown(item, inner)
    const [key, value] = item as [unknown, unknown]
    return `${number}${shown(key, inner).trimEnd()} => ${shown(value, inner)}`
  })
  return lines.join('')
}

/** As redis-cli writes a reply where no terminal is: what it holds, a line for each. */
export function raw(value: unknown): Buffer {
  return Buffer.concat(leaves(value).flatMap((leaf) => [leaf, NEWLINE]))
}

function leaves(value: unknown): Buffer[] {
  if (value instanceof Text) return [value.bytes]
  if (value instanceof XferdError) return [Buffer.from(value.message)]
  if (value instanceof Map) return [...value].flat().flatMap(leaves)
  if (value instanceof Set) return [...value].flatMap(leaves)
  if (value instanceof Push) return value.values.flatMap(leaves)
  if (Array.isArray(value)) return value.flatMap(leaves)
  return [Buffer.from(value === null ? '' : `${value}`)]
}

/** For JSON. Bytes that are no text are `{"base64": …}`; a map whose keys are text is an object, another one pairs. */
export function jsonOf(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return isUtf8(value) ? value.toString() : { base64: value.toString('base64') }
  if (value instanceof Text)
    return value.kind === 'double' ? jsonDouble(`${value.bytes}`) : jsonOf(value.bytes)
  if (value instanceof XferdError) return { error: value }
  if (typeof value === 'bigint') return `${value}`
  if (value instanceof Set) return [...value].map(jsonOf)
  if (value instanceof Push) return value.values.map(jsonOf)
  if (Array.isArray(value)) return value.map(jsonOf)
  if (!(value instanceof Map)) return value
  const pairs = [...value].map((pair) => pair.map(jsonOf))
  return pairs.every(([key]) => typeof key === 'string') ? Object.fromEntries(pairs) : pairs
}

/** JSON has no number for these. */
function jsonDouble(text: string): number | string {
  return Number.isFinite(Number(text)) ? Number(text) : text
}

/** Bytes in double quotes. What is no text, or would steer a terminal, is escaped. */
export function quoted(bytes: Buffer): string {
  const isText = isUtf8(bytes)
  const text = bytes.toString(isText ? 'utf8' : 'latin1')
  const escaped = text.replace(isText ? /["\\]|\p{C}/gu : /["\\]|[^ -~]/g, (character) => {
    const escapes = [...Buffer.from(character, isText ? 'utf8' : 'latin1')].map(hexEscape)
    return ESCAPES[character] ?? escapes.join('')
  })
  return `"${escaped}"`
}

function hexEscape(byte: number): string {
  return `\\x${byte.toString(16).padStart(2, '0')}`
}

/** Text of several lines, whose other control characters are shown as `?`. */
function printable(text: string): string {
  return text.replaceAll('\r\n', '\n').replace(/[^\P{Cc}\n\t]/gu, '?')
}

const NEWLINE = Buffer.from('\n')
const ESCAPES: Record<string, string> = {
  '"': '\\"',
  '\\': '\\\\',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\x07': '\\a',
  '\b': '\\b',
}
