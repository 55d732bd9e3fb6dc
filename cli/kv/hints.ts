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
    const [name = '', ...rest] = line.trimStart().split(/\s+/)
    const docs = this.#docs.get(name.toLowerCase())
    if (!docs || rest.length === 0) return ''
    const typed = rest.filter((word) => word !== '')
    const parts = this.#parts(docs)
    const left = parts ? missing(parts, typed) : typed.length === 0 ? [`${docs.get('summary') ?? ''}`] : []
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

/** Of the arguments of a command, those that were not typed; of some that may be again, that. */
function missing(parts: readonly string[], typed: readonly string[]): string[] {
  const firstOptional = parts.findIndex((part) => part.startsWith('['))
  const required = firstOptional < 0 ? parts.length : firstOptional
  const words = new Set(typed.map((word) => word.toUpperCase()))
  return parts.flatMap((part, index) => {
    if (index >= required) {
      const options = part.slice(1, -1).split(' | ')
      return options.some((option) => words.has(option.split(' ')[0] ?? '')) ? [] : [part]
    }
    return index >= typed.length ? [part] : (/\[[^[]* \.\.\.\]$/.exec(part) ?? [])
  })
}

/** `[EX seconds | PX milliseconds]`, `key [key ...]`. */
function usage(argument: Argument): string {
  const parts = argument.get('arguments')
  const inner = Array.isArray(parts) ? parts.map((part) => usage(part)) : []
  const flags = new Set<unknown>((argument.get('flags') ?? []) as Iterable<unknown>)
  const token = argument.get('token')
  const isBracketed = flags.has('optional') && token === undefined
  const text = textOf(argument, inner, isBracketed)
  const one = [token === '' ? '""' : token, text]
    .filter((word) => word !== undefined && word !== '')
    .join(' ')
  const all = flags.has('multiple') ? `${one} [${one} ...]` : one
  return flags.has('optional') ? `[${all}]` : all
}

function textOf(argument: Argument, inner: string[], isBracketed: boolean): string {
  switch (argument.get('type')) {
    case 'pure-token':
      return ''
    case 'oneof':
      return isBracketed ? inner.join(' | ') : `<${inner.join(' | ')}>`
    case 'block':
      return inner.join(' ')
    default:
      return `${argument.get('display_text') ?? argument.get('name') ?? 'argument'}`
  }
}
