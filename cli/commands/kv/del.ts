import * as Args from '@oclif/core/args'
import { KvCommand, kvFlags, urlArg } from '../../kv/command.js'
import { formatCount } from '../../text.js'

export class KvDel extends KvCommand {
  static override summary = 'Remove keys.'
  static override usage = 'kv del URL KEY…'
  static override examples = ['<%= config.bin %> kv del kv://127.0.0.1 greeting logo']
  static override args = {
    url: urlArg,
    keys: Args.string({ required: true, multiple: true, ignoreStdin: true, description: 'their names' }),
  }
  static override flags = kvFlags

  override async run(): Promise<{ removed: number }> {
    const { args, flags } = await this.parse(KvDel)
    await using kv = await this.connect(args.url, flags)
    const removed = await kv.del(args.keys)
    if (!this.jsonEnabled()) this.tell(`removed ${formatCount(removed, 'key')}`)
    return { removed }
  }
}
