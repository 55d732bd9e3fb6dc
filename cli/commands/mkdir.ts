import * as Args from '@oclif/core/args'
import { connect } from '../../src/index.js'
import { parseAddresses, XferdCommand } from '../command.js'

export class Mkdir extends XferdCommand {
  static override summary = 'Make folders on a server, and those above them.'
  static override examples = ['<%= config.bin %> mkdir xfer://nas/films/2026']
  static override args = {
    path: Args.string({
      required: true,
      multiple: true,
      ignoreStdin: true,
      description: 'folders to make: xfer://HOST[:PORT]/PATH',
    }),
  }

  override async run(): Promise<{ made: string[] }> {
    const { args } = await this.parse(Mkdir)
    const { server, paths } = parseAddresses(args.path)
    await using client = await connect(server)
    for (const path of paths) await client.makeDir(path)
    return { made: paths }
  }
}
