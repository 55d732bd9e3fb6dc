import * as Args from '@oclif/core/args'
import * as Flags from '@oclif/core/flags'
import { importKeys } from '../../../src/index.js'
import { XferdCommand } from '../../command.js'
import { formatBytes, formatCount } from '../../text.js'

export class KvImport extends XferdCommand {
  static override summary = 'Take keys over from Redis 7 into a directory to serve them from.'
  static override description =
    'All of them or, if that fails, none: strings, lists, sets, hashes and sorted sets with their deadlines. No server may use the directory, and there may be no keys in it. All keys have to fit into memory.'
  static override examples = [
    '<%= config.bin %> kv import /var/lib/redis/dump.rdb --kv-dir keys',
    '<%= config.bin %> kv import /var/lib/redis/appendonlydir --kv-dir keys --json',
  ]
  static override args = {
    file: Args.string({
      required: true,
      ignoreStdin: true,
      description: 'a dump (dump.rdb), a log (appendonly.aof), or the directory of logs (appendonlydir)',
    }),
  }
  static override flags = {
    'kv-dir': Flags.string({
      required: true,
      helpValue: 'DIR',
      description: 'where to: what xferd serve --kv-dir is told; made if it is not there',
    }),
  }

  override async run(): Promise<{ keys: number; bytes: number; torn_bytes: number }> {
    const { args, flags } = await this.parse(KvImport)
    const { keys, bytes, tornBytes } = await importKeys(args.file, flags['kv-dir'])
    const torn = tornBytes === 0 ? '' : `; its last ${formatBytes(tornBytes)} are torn off and were left out`
    if (!this.jsonEnabled())
      this.tell(
        `imported ${formatCount(keys, 'key')} from ${formatBytes(bytes)} into ${flags['kv-dir']}${torn}`,
      )
    return { keys, bytes, torn_bytes: tornBytes }
  }
}
