import * as Flags from '@oclif/core/flags'
import type { KvScanOptions } from '../../../src/index.js'
import { KvCommand, kvFlags, urlArg } from '../../kv/command.js'
import { put } from '../../kv/output.js'
import { jsonOf, quoted } from '../../kv/replies.js'

export class KvScan extends KvCommand {
  static override summary = 'Print the names of all keys, or of some.'
  static override description =
    'A line each; on a terminal, in quotes. With --json, {"key": …} a line. The server goes on with other things meanwhile; a key that comes or goes may be told or not.'
  static override examples = [
    '<%= config.bin %> kv scan kv://127.0.0.1',
    '<%= config.bin %> kv scan kv://127.0.0.1 --match "user:*" --type hash --json',
  ]
  static override args = { url: urlArg }
  static override flags = {
    match: Flags.string({ helpValue: 'PATTERN', description: 'only names that it describes' }),
    type: Flags.string({ helpValue: 'TYPE', description: 'only string, list, set, hash or zset' }),
    count: Flags.integer({
      min: 1,
      default: 1000,
      helpValue: 'N',
      description: 'keys that are looked at for each request',
    }),
    ...kvFlags,
  }

  override async run(): Promise<void> {
    const { args, flags } = await this.parse(KvScan)
    const { match, type, count } = flags
    const options: KvScanOptions = {
      count,
      ...(match === undefined ? {} : { match }),
      ...(type === undefined ? {} : { type }),
    }
    await using kv = await this.connect(args.url, flags)
    for await (const key of kv.with({ buffers: true }).scan(options)) await put(this.#line(key))
  }

  #line(key: Buffer): string | Buffer {
    if (this.jsonEnabled()) return `${JSON.stringify({ key: jsonOf(key) })}\n`
    return process.stdout.isTTY ? `${quoted(key)}\n` : Buffer.concat([key, END])
  }
}

const END = Buffer.from('\n')
