# The suite that every supervisor must pass (tests/contract), against the real systemd.
# lanes: container
# fresh: yes
# files: contract
# timeout: 300

install -m 755 contract/contract /usr/local/bin/contract
CLAUDED_TEST_SUPERVISOR=systemd /usr/local/bin/contract
