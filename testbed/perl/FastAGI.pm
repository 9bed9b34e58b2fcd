package FastAGI;

# What the two servers have in common. Net::Server gives the connection as
# standard input and output, which is what Asterisk::AGI wants.
#
# Environment, besides that of the application:
#   FASTAGI_APP    the application: Welcome, or Survey (Welcome)
#   FASTAGI_HOST   address to listen on (127.0.0.1)
#   FASTAGI_LOG    Net::Server's log_level (2)

use strict;
use warnings;

my $app = $ENV{FASTAGI_APP} // 'Welcome';
require "$app.pm";

sub process_request {
    my $self = shift;
    $app->can('run')->(sub { $self->log(1, $_[0]) });
}

# serve runs the server on a port, for ever; as nobody, if it is started by root.
sub serve {
    my ($class, $port) = @_;
    $class->run(
        host      => $ENV{FASTAGI_HOST} // '127.0.0.1',
        port      => $port // 4573,
        ipv       => 4,
        log_level => $ENV{FASTAGI_LOG} // 2,
        $> == 0 ? (user => 'nobody', group => 'nogroup') : (),
    );
}

1;
