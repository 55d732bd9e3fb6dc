import { createInterface } from 'node:readline'
import { XferdError } from '../../src/index.js'
import { put } from './output.js'
import { jsonOf, raw } from './replies.js'
import type { Talk } from './talk.js'
import { splitWords } from './words.js'

/**
 * Says the lines of stdin, one after another, and writes what is replied: what it holds, a line for each, or one object of JSON.
 *
 * @throws {XferdError} the first error that is replied, as `redis-cli -e` ends with it; what follows is not said
 */
export async function runScript(talk: Talk, isJson: boolean): Promise<void> {
  const write = (reply: unknown): Promise<void> =>
    put(isJson ? `${JSON.stringify({ reply: jsonOf(reply) })}\n` : raw(reply))
  for await (const line of createInterface({ input: process.stdin })) {
    const words = splitWords(line)
    if (typeof words === 'string') throw new XferdError('INVALID_ARGUMENT', `${words}: ${line}`)
    if (words.length === 0) continue
    if (/^(exit|quit)$/i.test(`${words[0]}`)) break
    if (talk.isListening(words)) {
      for await (const told of talk.listen(words, NEVER)) await write(failing(told))
    } else await write(failing(await talk.say(words)))
  }
}

function failing(reply: unknown): unknown {
  if (reply instanceof XferdError) throw reply
  return reply
}

const NEVER = new AbortController().signal
