"""What is deployed where: deployments, work pools, blocks, automations."""
