import * as Args from '@oclif/core/args'
import { connect } from '../../src/index.js'
import { parseAddresses, XferdCommand } from '../command.js'

export class Mv extends XferdCommand {
  static override summary = 'Rename a file or folder on a server.'
  static override examples = ['<%= config.bin %> mv xfer://nas/in/movie.mkv xfer://nas/films/movie.mkv']
  static override args = {
    from: Args.string({ required: true, ignoreStdin: true, description: 'xfer://HOST[:PORT]/PATH' }),
    to: Args.string({ required: true, ignoreStdin: true, description: 'its new name, on the same server' }),
  }

  override async run(): Promise<{ from: string; to: string }> {
    const { args } = await this.parse(Mv)
    const { server, paths } = parseAddresses([args.from, args.to])
    const [from = '', to = ''] = paths
    await using client = await connect(server)
    await client.rename(from, to)
    return { from, to }
  }
}
