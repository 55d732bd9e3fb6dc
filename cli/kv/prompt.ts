import { createInterface, type Interface, type Key } from 'node:readline'
import { XferdError } from '../../src/index.js'
import type { Hints } from './hints.js'
import type { History } from './history.js'
import { shown } from './replies.js'
import type { Talk } from './talk.js'
import { splitWords } from './words.js'

/** Where a person types commands: with history, completion and hints. */
export class Prompt {
  readonly #talk: Talk
  readonly #hints: Hints
  readonly #history: History
  readonly #place: string
  readonly #terminal: Interface
  #underWay: AbortController | undefined
  /** What was typed of a line whose quote is not closed. */
  #begun = ''

  /** @param place what the prompt calls the server */
  constructor(talk: Talk, hints: Hints, history: History, place: string) {
    this.#talk = talk
    this.#hints = hints
    this.#history = history
    this.#place = place
    this.#terminal = createInterface({
      input: process.stdin,
      output: process.stdout,
      terminal: true,
      history: history.lines,
      removeHistoryDuplicates: true,
      completer: (line: string) => this.#complete(line),
    })
    this.#terminal.on('SIGINT', () => this.#interrupt())
    if (process.env.TERM !== 'dumb') this.#showHints()
  }

  /** Until `exit`, `quit` or the end of the input. */
  async run(): Promise<void> {
    const lines = this.#terminal[Symbol.asyncIterator]()
    process.stdout.write('Type help for help; Ctrl-D or exit leaves.\n')
    for (;;) {
      this.#prompt()
      const { value: line, done } = await lines.next()
      if (done) break
      if (await this.#take(this.#begun + line)) break
    }
    this.#terminal.close()
    await this.#talk.leave()
  }

  /** Whether that was the last. */
  async #take(line: string): Promise<boolean> {
    const words = splitWords(line)
    this.#begun = words === 'a quote is not closed' ? `${line}\n` : ''
    if (this.#begun !== '') return false
    void this.#history.add(line)
    if (typeof words === 'string') {
      this.#write(`(error) ${words}\n`)
      return false
    }
    const [name, word] = words.map((word) => `${word}`)
    switch (name?.toLowerCase()) {
      case undefined:
        return false
      case 'exit':
      case 'quit':
        return true
      case 'help':
        this.#help(word)
        return false
      case 'clear':
        this.#write('\x1b[H\x1b[2J')
        return false
      default:
        await this.#say(words)
        return false
    }
  }

  async #say(words: Buffer[]): Promise<void> {
    this.#underWay = new AbortController()
    const { signal } = this.#underWay
    try {
      if (this.#talk.isListening(words)) {
        this.#write('(Ctrl-C ends it)\n')
        for await (const told of this.#talk.listen(words, signal)) {
          this.#write(shown(told))
          if (told instanceof XferdError) break
        }
      } else this.#write(shown(await this.#talk.say(words, signal)))
    } catch (error) {
      if (!(error instanceof XferdError)) throw error
      const lost = error.code === 'CONNECTION_LOST' ? '; the next command connects again' : ''
      this.#write(`(error) ${error.message}${lost}\n`)
    } finally {
      this.#underWay = undefined
    }
  }

  #prompt(): void {
    const { database, isInTransaction } = this.#talk
    const place = `${this.#place}${database === 0 ? '' : `[${database}]`}${isInTransaction ? '(TX)' : ''}`
    this.#terminal.setPrompt(this.#begun === '' ? `${place}> ` : '...> ')
    this.#terminal.prompt()
  }

  /** Ends what is under way; else forgets what was typed. */
  #interrupt(): void {
    if (this.#underWay) return void this.#underWay.abort(new Error('interrupted'))
    this.#begun = ''
    this.#write('^C\n')
    // As Ctrl-E and Ctrl-U would.
    this.#terminal.write(null, { ctrl: true, name: 'e' })
    this.#terminal.write(null, { ctrl: true, name: 'u' })
    this.#prompt()
  }

  #help(name: string | undefined): void {
    this.#write(
      name === undefined ? this.#overview() : (this.#hints.help(name) ?? `  there is no command ${name}\n`),
    )
  }

  #overview(): string {
    const width = 14
    const names = this.#hints.names.map((name) => name.toUpperCase().padEnd(width))
    const columns = Math.max(1, Math.floor(((process.stdout.columns || 80) - 2) / width))
    const rows = Array.from({ length: Math.ceil(names.length / columns) }, (_, row) =>
      `  ${names.slice(row * columns, (row + 1) * columns).join('')}`.trimEnd(),
    )
    return `${rows.join('\n')}\n  help COMMAND tells what one does; Tab completes names; clear clears the screen.\n`
  }

  #complete(line: string): [string[], string] {
    const [, before = '', word = ''] = /^(\s*(?:help\s+)?)(\S*)$/i.exec(line) ?? [undefined, line, undefined]
    if (line !== before + word) return [[], line]
    const isUpper = /[A-Z]/.test(word) || word === ''
    const own = before.trim() === '' ? ['help', 'exit', 'clear'] : []
    const names = [...this.#hints.names.map((name) => (isUpper ? name.toUpperCase() : name)), ...own]
    return [
      names.filter((name) => name.toLowerCase().startsWith(word.toLowerCase())).map((name) => `${name} `),
      word,
    ]
  }

  /** Behind the cursor, while that is at the end of the line. */
  #showHints(): void {
    const erase = (_: string, key: Key | undefined): void => {
      if (key?.name === 'return' || key?.name === 'enter') process.stdout.write('\x1b[K')
    }
    const draw = (): void => {
      if (this.#underWay || this.#terminal.cursor !== this.#terminal.line.length) return
      const room = (process.stdout.columns || 80) - this.#terminal.getCursorPos().cols - 1
      const hint =
        this.#begun === '' ? this.#hints.behind(this.#terminal.line).slice(0, Math.max(room, 0)) : ''
      process.stdout.write(hint === '' ? '\x1b[K' : `\x1b[K\x1b[2m${hint}\x1b[22m\x1b[${hint.length}D`)
    }
    // Before the terminal goes on to the next line, and after it has drawn this one.
    process.stdin.prependListener('keypress', erase)
    process.stdin.on('keypress', (_, key: Key | undefined) => {
      if (key?.name !== 'return' && key?.name !== 'enter') draw()
    })
    this.#terminal.once('close', () => process.stdin.off('keypress', erase))
  }

  #write(text: string): void {
    process.stdout.write(text)
  }
}
