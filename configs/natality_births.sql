-- The table that configs/natality_gcp.yaml reads, from the public natality table: about 8 million births, each once as
-- it is on record and once as before an ultrasound, when nobody knows the sex or has counted the children.
CREATE OR REPLACE TABLE `my-project.foretable.births` AS
WITH births AS (
  SELECT
    CASE WHEN is_male THEN 'True' ELSE 'False' END AS is_male,
    mother_age,
    plurality,
    gestation_weeks,
    weight_pounds,
    FARM_FINGERPRINT(CONCAT(CAST(year AS STRING), '-', CAST(month AS STRING))) AS hashmonth
  FROM `bigquery-public-data.samples.natality`
  WHERE year > 2006 AND weight_pounds > 0 AND plurality BETWEEN 1 AND 4
)
SELECT
  is_male,
  mother_age,
  CASE plurality
    WHEN 1 THEN 'Single(1)' WHEN 2 THEN 'Twins(2)' WHEN 3 THEN 'Triplets(3)' ELSE 'Quadruplets(4)'
  END AS plurality,
  NULLIF(gestation_weeks, 99) AS gestation_weeks,
  weight_pounds,
  hashmonth
FROM births
UNION ALL
SELECT
  'Unknown',
  mother_age,
  CASE plurality WHEN 1 THEN 'Single(1)' ELSE 'Multiple(2+)' END,
  NULLIF(gestation_weeks, 99),
  weight_pounds,
  hashmonth
FROM births;
