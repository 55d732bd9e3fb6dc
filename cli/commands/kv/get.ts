import * as Args from '@oclif/core/args'
import { XferdError } from '../../../src/index.js'
import { KvCommand, kvFlags, urlArg } from '../../kv/command.js'
import { put } from '../../kv/output.js'
import { jsonOf, quoted } from '../../kv/replies.js'

export class KvGet extends KvCommand {
  static override summary = 'Print the string that a key holds.'
  static override description =
    'Its bytes and nothing else, except on a terminal: there a line, in quotes if that has something in it that would steer it. With --json, bytes that are no text are {"base64": …}.'
  static override examples = [
    '<%= config.bin %> kv get kv://127.0.0.1 greeting',
    '<%= config.bin %> kv get kv+unix:///run/xferd-kv.sock logo > logo.png',
  ]
  static override args = {
    url: urlArg,
    key: Args.string({ required: true, ignoreStdin: true, description: 'its name' }),
  }
  static override flags = kvFlags

  override async run(): Promise<{ key: string; value: unknown }> {
    const { args, flags } = await this.parse(KvGet)
    await using kv = await this.connect(args.url, flags)
    const value = await kv.with({ buffers: true }).get(args.key)
    if (value === null) throw new XferdError('NOT_FOUND', `there is no key ${args.key}`)
    if (!this.jsonEnabled()) await put(process.stdout.isTTY ? onTerminal(value) : value)
    return { key: args.key, value: jsonOf(value) }
  }
}

function onTerminal(value: Buffer): string {
  const safe = quoted(value)
  return safe === `"${value}"` ? `${value}\n` : `${safe}\n`
}
