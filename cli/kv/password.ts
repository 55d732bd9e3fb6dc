import { createInterface } from 'node:readline'
import { Writable } from 'node:stream'

/** Asks who sits at the terminal, who does not see what is typed. */
export async function askPassword(): Promise<string> {
  process.stdout.write('password: ')
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() })
  const terminal = createInterface({ input: process.stdin, output: nowhere, terminal: true })
  try {
    return await new Promise((resolve) => {
      terminal.question('', resolve)
      terminal.once('close', () => resolve(''))
    })
  } finally {
    terminal.close()
    process.stdout.write('\n')
  }
}
