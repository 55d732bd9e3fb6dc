import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { XferdError } from '../../../src/index.js'
import { ARG_BYTES_MAX } from '../../../src/kv/codec.js'
import { KvCommand, kvFlags, urlArg } from '../../kv/command.js'

export class KvSet extends KvCommand {
  static override summary = 'Set the string that a key holds.'
  static override description = 'Without a value, all bytes of stdin are it.'
  static override examples = [
    '<%= config.bin %> kv set kv://127.0.0.1 greeting hello',
    '<%= config.bin %> kv set kv://127.0.0.1 logo < logo.png',
    '<%= config.bin %> kv set kv://127.0.0.1 lock mine --px 30000 --only-if absent',
  ]
  static override args = {
    url: urlArg,
    key: Args.string({ required: true, ignoreStdin: true, description: 'its name' }),
    value: Args.string({ ignoreStdin: true, description: 'what it holds; stdin unless given' }),
  }
  static override flags = {
    ex: Flags.integer({ min: 1, helpValue: 'SECONDS', description: 'for how long it lives' }),
    px: Flags.integer({
      min: 1,
      exclusive: ['ex'],
      helpValue: 'MILLISECONDS',
      description: 'for how long it lives',
    }),
    'keep-ttl': Flags.boolean({ exclusive: ['ex', 'px'], description: 'it lives as long as it would have' }),
    'only-if': Flags.option({ options: ['absent', 'present'] as const })({
      description: 'fail, and change nothing, if the key is there, or is not',
    }),
    ...kvFlags,
  }

  override async run(): Promise<{ key: string; bytes: number }> {
    const { args, flags } = await this.parse(KvSet)
    const { ex, px, 'keep-ttl': keepTtl, 'only-if': onlyIf } = flags
    const value = args.value === undefined ? await all(process.stdin) : Buffer.from(args.value)
    await using kv = await this.connect(args.url, flags)
    const set = await kv.set(args.key, value, {
      keepTtl,
      ...(ex === undefined ? {} : { ex }),
      ...(px === undefined ? {} : { px }),
      ...(onlyIf === undefined ? {} : { onlyIf }),
    })
    if (set === null) {
      throw onlyIf === 'absent'
        ? new XferdError('EXISTS', `the key ${args.key} is there`)
        : new XferdError('NOT_FOUND', `there is no key ${args.key}`)
    }
    return { key: args.key, bytes: value.length }
  }
}

async function all(input: AsyncIterable<Buffer>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of input) {
    length += chunk.length
    if (length > ARG_BYTES_MAX)
      throw new XferdError('INVALID_ARGUMENT', `a value has at most ${ARG_BYTES_MAX} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}
