/** What is known of commands, by COMMAND DOCS and COMMAND INFO, and what of it is told to who types one. */
import type { Talk } from './talk.js'

/** An argument, as COMMAND DOCS of Redis tells it. */
type Argument = ReadonlyMap<string, unknown>

export class Hints {
  readonly #docs: ReadonlyMap<string, ReadonlyMap<string, unknown>>
  /** Words of each command, its name among them; at least so many if negative. */
  readonly #arities: ReadonlyMap<string, number>

  constructor(docs: ReadonlyMap<string, ReadonlyMap<string, unknown>>, arities: ReadonlyMap<string, number>) {
    this.#docs = docs
    this.#arities = arities
  }

  /** Asks a server; one that does not tell has no hints. `talk` replies text as strings. */
  static async ask(talk: Talk): Promise<Hints> {
    const docs = await talk.say(['COMMAND', 'DOCS'])
    const commands = await talk.say(['COMMAND'])
    const arities = Array.isArray(commands)
      ? commands.map(([name, arity]) => [`${name}`, Number(arity)] as const)
      : []
    return new Hints(docs instanceof Map ? docs : new Map(), new Map(arities))
  }

  /** In lower case, sorted. */
  get names(): string[] {
    return [...new Set([...this.#docs.keys(), ...this.#arities.keys()])].sort()
  }

  /** What is behind what was typed: the arguments that are missing, or, if the server does not tell them, what the command does. */
  behind(line: string): string {
    const [name = '', ...typed] = line.trimStart().split(/\s+/)
    const docs = this.#docs.get(name.toLowerCase())
    if (!docs || typed.length === 0) return ''
    const done = typed.slice(0, -1)
    const parts = this.#parts(docs)
    const left = parts
      ? parts
          .slice(done.length)
          .filter((part) => !done.some((word) => part.startsWith(`[${word.toUpperCase()}`)))
      : done.length === 0 && typed[0] === ''
        ? [`${docs.get('summary') ?? ''}`]
        : []
    return left.length === 0 ? '' : (line.endsWith(' ') ? '' : ' ') + left.join(' ')
  }

  /** A few lines on a command; `undefined` if there is none of that name. */
  help(name: string): string | undefined {
    const key = name.toLowerCase()
    const docs = this.#docs.get(key)
    if (!docs) return undefined
    const parts = this.#parts(docs) ?? [this.#count(key)]
    return [
      `  ${key.toUpperCase()} ${parts.join(' ')}`.trimEnd(),
      `  ${docs.get('summary') ?? ''}`,
      `  group: ${docs.get('group') ?? 'none'}`,
      '',
    ].join('\n')
  }

  #parts(docs: ReadonlyMap<string, unknown>): string[] | undefined {
    const described = docs.get('arguments')
    return Array.isArray(described) ? described.map((argument) => usage(argument)) : undefined
  }

  #count(name: string): string {
    const arity = this.#arities.get(name) ?? -1
    const least = Math.abs(arity) - 1
    if (arity < 0) return least === 0 ? '[argument ...]' : `(${least} or more arguments)`
    return least === 0 ? '' : least === 1 ? '(1 argument)' : `(${least} arguments)`
  }
}

/** `[EX seconds | PX milliseconds]`, `key [key ...]`. */
function usage(argument: Argument): string {
  const parts = argument.get('arguments')
  const inner = Array.isArray(parts) ? parts.map((part) => usage(part)) : []
  const name = `${argument.get('display_text') ?? argument.get('name') ?? 'argument'}`
  const type = argument.get('type')
  const text =
    type === 'pure-token'
      ? ''
      : type === 'oneof'
        ? inner.join(' | ')
        : type === 'block'
          ? inner.join(' ')
          : name
  const token = argument.get('token')
  const one = [token === undefined ? '' : token === '' ? '""' : `${token}`, text]
    .filter((word) => word !== '')
    .join(' ')
  const flags = new Set<unknown>((argument.get('flags') ?? []) as Iterable<unknown>)
  const all = flags.has('multiple') ? `${one} [${one} ...]` : one
  if (flags.has('optional')) return `[${all}]`
  return type === 'oneof' && token === undefined ? `<${all}>` : all
}
